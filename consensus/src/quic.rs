//! The network of the program: QUIC with mutual TLS. The only door to quinn and rustls.
