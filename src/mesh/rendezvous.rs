//! How the processes of one user on one machine find each other.
