//! How many connections there are from each address, whatever has become of them: from accept, on
//! the front's thread, to the last byte, on a shard's.
//!
//! The table has an entry for each address from which somebody is here, so the number of connections
//! bounds it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::network;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Visitors {
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Visitors {
    /// Counts one for its address, or its IPv6 network; `None`: there are `max` already.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Visitor> {
        let address = network(address);
        let mut by_address = self.lock();
        let count = by_address.entry(address).or_insert(0);
        if *count >= max {
            // Also where nobody may come: then the entry is new.
            if *count == 0 {
                by_address.remove(&address);
            }
            return None;
        }
        *count += 1;
        Some(Visitor { all: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Visitor {
    all: Arc<Visitors>,
    address: IpAddr,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut by_address = self.all.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_from_a_network_is_not_counted_until_another_goes() {
        let visitors = Arc::new(Visitors::default());
        let enter = |address: &str| visitors.enter(address.parse().unwrap(), 2);
        let (first, second) = (enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap());
        assert!(enter("2001:db8::3").is_none());
        let other = enter("2001:db8:0:1::1").unwrap();
        drop(first);
        let third = enter("2001:db8::3").unwrap();
        assert!(visitors.enter("192.0.2.7".parse().unwrap(), 0).is_none());
        drop((second, third, other));
        assert!(visitors.lock().is_empty());
    }
}
