//! What the desk and the choice of masters are told of the world around them.
