//! A login that panics costs its own connection, and no place of anybody else.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tidings_broker::ConnectionLimits;
use tidings_broker::auth::{Authenticate, Credentials, Decision};

use crate::shell::builder;
use crate::wire::{Connect, Wire};

/// Defective.
#[derive(Debug)]
struct PanicsForMallory;

impl Authenticate for PanicsForMallory {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        Box::pin(async move {
            let user = credentials.user_name.unwrap_or_default();
            assert_ne!(user, "mallory", "a defect");
            Decision::accept(user)
        })
    }
}

#[test]
fn logins_that_panic_leave_their_places_to_others() {
    let limits = ConnectionLimits {
        unauthenticated_max: 3,
        unauthenticated_per_address_max: 3,
        ..ConnectionLimits::default()
    };
    let authenticate = Arc::new(PanicsForMallory);
    let broker = builder().connection_limits(limits).authenticate(authenticate).start().unwrap();
    let address = broker.addresses()[0];
    for _ in 0..5 {
        let mallory = Connect::new("phone").user("mallory");
        assert!(Wire::try_connect(address, &mallory).is_err(), "nobody answered");
    }
    Wire::connect(address, &Connect::new("phone").user("bob")).ping();
}
