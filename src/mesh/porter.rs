//! Lets others in: answers whoever knocks with a token.
