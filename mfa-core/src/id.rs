//! Names of stored things, each of its own type.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(i64);

        impl $name {
            /// Wraps a number that the store gave.
            #[must_use]
            pub const fn new(id: i64) -> Self {
                Self(id)
            }

            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A person.
    UserId
}
id! {
    /// A device: one WireGuard key pair of a user.
    DeviceId
}
id! {
    /// A tunnel network, served by one or more gateways.
    LocationId
}
id! {
    /// A host that programs WireGuard for one location.
    GatewayId
}
id! {
    /// One request to prove a factor.
    ChallengeId
}
id! {
    /// What a proven challenge bought.
    SessionId
}
