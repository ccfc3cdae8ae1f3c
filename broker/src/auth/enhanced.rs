//! Enhanced authentication (§4.12): methods that take more than a name and a password.
//!
//! An exchange begins with CONNECT, before anything of the session is touched, or with an AUTH on a
//! connection whose CONNECT named the same method (§4.12.1). The steps of one exchange come one
//! after the other; the broker sees to the packets, the deadline and the Reason Codes.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Credentials, Refusal};

/// Offers Authentication Methods, see [`crate::Builder::enhanced_authenticate`].
pub trait EnhancedAuthenticate: Debug + Send + Sync {
    /// Whether `method`, which a Client names, is one of its own. Names are compared as they are.
    fn offers(&self, method: &str) -> bool;

    /// Begins an exchange with the Client that is introduced. It says something in the first
    /// [`Exchange::step`]: nothing is to be decided here.
    fn begin(self: Arc<Self>, introduction: Introduction) -> Box<dyn Exchange>;
}

/// Who begins an exchange, by its own account.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// The Authentication Method.
    pub method: String,
    /// What CONNECT says besides. A Client that is authenticated again has no password here.
    pub credentials: Credentials,
    /// The user that the connection speaks for already. Only the same one can be accepted: the
    /// broker refuses any other.
    pub current_user: Option<String>,
}

/// One exchange, from its first data to the decision.
///
/// What it keeps must be bounded, for strangers begin as many as there are places for strangers.
/// One that panics is refused.
pub trait Exchange: Debug + Send {
    /// Takes what the Client says (empty: it says nothing), and answers. Not called again after
    /// anything but [`Step::Continue`].
    ///
    /// The future may take its time, but must not block the thread that polls it.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point, and the exchange with it: the deadline is the
    /// broker's.
    fn step<'a>(&'a mut self, data: &'a [u8]) -> Pin<Box<dyn Future<Output = Step> + Send + 'a>>;
}

/// What an exchange answers. Data goes to the Client as Authentication Data, up to 65,535 bytes;
/// none is sent where it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// The Client is to say more.
    Continue {
        /// What it is told.
        data: Vec<u8>,
    },
    /// The connection speaks for `user`.
    Accept {
        /// The user that sessions, rights and chats belong to.
        user: String,
        /// When that is over, by the system's clock: the connection is ended then, with 0x87,
        /// unless it was authenticated again.
        expires: Option<SystemTime>,
        /// What the Client is told, so that it knows the server too.
        data: Vec<u8>,
    },
    /// The connection is answered with a Reason Code and closed [MQTT-4.12.0-4].
    Refuse(Refusal),
}

/// The methods of a broker, in the order they were registered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Methods(Vec<Arc<dyn EnhancedAuthenticate>>);

impl Methods {
    pub(crate) fn push(&mut self, offer: Arc<dyn EnhancedAuthenticate>) {
        self.0.push(offer);
    }

    /// Who offers `method`.
    pub(crate) fn find(&self, method: &str) -> Option<Arc<dyn EnhancedAuthenticate>> {
        self.0.iter().find(|offer| offer.offers(method)).map(Arc::clone)
    }
}
