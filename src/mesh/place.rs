//! What a member keeps on disk besides its log: certificate, key, authorities, addresses. All of it 0600.
