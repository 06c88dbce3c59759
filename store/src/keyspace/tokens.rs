//! Tokens: who has the secret half may join, so often and for so long as the public half here says.

use super::Turn;
use crate::command::Stored;
use crate::host::HostName;
use crate::key::Key;
use crate::limits::{TOKEN_AGE_MS_MAX, TOKENS_MAX};
use crate::outcome::{Clash, Done, Missing, Quota, Refusal};
use crate::record::Token;

impl Turn<'_> {
    pub(super) fn token_create(&mut self, id: &str, token: Token) -> Result<Done, Refusal> {
        let key = Key::token(id).map_err(|_| Refusal::Malformed)?;
        let now = self.tables.now_ms;
        let lives = token.expires_ms > now && token.expires_ms - now <= TOKEN_AGE_MS_MAX;
        if !lives || token.uses == Some(0) {
            return Err(Refusal::Malformed);
        }
        if self.tables.keys.get(key.as_str()).is_some() {
            return Err(Refusal::Conflict(Clash::TokenTaken));
        }
        let tokens: Vec<Key> = self.under(Key::TOKENS).cloned().collect();
        let expired: Vec<&Key> =
            tokens.iter().filter(|key| self.token(key).is_none_or(|t| t.expires_ms <= now)).collect();
        if tokens.len() - expired.len() >= TOKENS_MAX {
            return Err(Refusal::QuotaExceeded(Quota::Tokens));
        }
        // Those that have expired are kept for people to see, until there is a new one.
        for key in expired {
            self.erase(key.as_str());
        }
        self.write_record(key, &Token { used: 0, ..token });
        Ok(Done::Applied)
    }

    pub(super) fn token_consume(&mut self, id: &str, host: &HostName, used: u32) -> Result<Done, Refusal> {
        let key = Key::token(id).map_err(|_| Refusal::Malformed)?;
        let mut token = self.token(&key).ok_or(Refusal::NotFound(Missing::Token))?;
        let clash = if self.tables.now_ms >= token.expires_ms {
            Some(Clash::TokenExpired)
        } else if token.host.as_ref().is_some_and(|only| only != host) {
            Some(Clash::TokenHost)
        } else if token.used != used || token.uses.is_some_and(|uses| token.used >= uses) {
            Some(Clash::TokenUsed)
        } else {
            None
        };
        if let Some(clash) = clash {
            return Err(Refusal::Conflict(clash));
        }
        token.used = token.used.saturating_add(1);
        self.write_record(key, &token);
        Ok(Done::TokenUsed { role: token.role, replace: token.replace })
    }

    pub(super) fn token_revoke(&mut self, id: &str) -> Result<Done, Refusal> {
        let key = Key::token(id).map_err(|_| Refusal::Malformed)?;
        if self.erase(key.as_str()) { Ok(Done::Applied) } else { Err(Refusal::NotFound(Missing::Token)) }
    }

    fn token(&self, key: &Key) -> Option<Token> {
        let entry = self.tables.keys.get(key.as_str())?;
        Some(Token::load(&entry.value).expect("records are written by this crate and checked when they are restored"))
    }
}
