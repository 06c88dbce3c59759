//! How this host is let into a mesh by a token.
