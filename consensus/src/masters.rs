//! Which members vote: what is known of them ([`census`]), what follows from it ([`choose`]), and doing it.
