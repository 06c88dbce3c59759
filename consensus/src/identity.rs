//! Who a peer is: names that are drawn once, and the file that remembers them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! drawn {
    ($(#[$doc:meta])* $Name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "testing", derive(Default))]
        pub struct $Name(pub u128);

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

drawn! {
    /// A cluster. Two of them never merge.
    ClusterId
}
drawn! {
    /// A peer, as the transport knows it.
    PeerId
}
drawn! {
    /// One life of a peer's directory. A directory that was lost and made anew is another one.
    Incarnation
}
