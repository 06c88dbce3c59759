//! Certificates are renewed long before they end, and authorities are replaced.
