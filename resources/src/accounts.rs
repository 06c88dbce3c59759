//! Users and groups without NSS: a static program must not load plugins of another libc. Parses the account files, and
//! asks `getent` as a child process for names they lack.

/// Looks up users and groups.
#[derive(Debug, Default)]
pub struct Accounts;
