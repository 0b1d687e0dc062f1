//! Handshakes under way, with peers of which nobody knows yet whether they are authorised.
//!
//! They have places of their own, so that strangers take none from who is authorised: a number of
//! them in all, and a share of it for each address. An address can be forged until it is proved,
//! which takes a round trip; once a part of the places is taken, only proved ones get the others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use crate::scheduler::lock;

/// Addresses that are not proved get one in so many of the places, and of an address's share.
const UNPROVED_PART: u32 = 4;

/// The places, and who has them.
pub(super) struct Handshakes {
    limit: u32,
    limit_per_address: u32,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// What is to be done with an attempt.
pub(super) enum Admission {
    /// It has a place.
    Admitted(Handshake),
    /// It must prove its address first.
    Unproved,
    /// There is no place for it.
    Full {
        /// The places that are all taken
        what: &'static str,
        /// How many there are
        limit: u32,
    },
}

impl Handshakes {
    pub(super) fn new(limit: u32, limit_per_address: u32) -> Arc<Handshakes> {
        Arc::new(Handshakes {
            limit,
            limit_per_address,
            taken: Mutex::default(),
        })
    }

    /// Gives a place to an attempt from this address, if it may have one.
    pub(super) fn admit(self: &Arc<Self>, from: IpAddr, proved: bool) -> Admission {
        let address = source(from);
        let mut taken = lock(&self.taken);
        let of_address = taken.by_address.get(&address).copied().unwrap_or(0);
        let busy = taken.all >= self.limit / UNPROVED_PART
            || of_address >= self.limit_per_address / UNPROVED_PART;
        if busy && !proved {
            return Admission::Unproved;
        }
        if of_address >= self.limit_per_address {
            let (what, limit) = ("handshakes of an address", self.limit_per_address);
            return Admission::Full { what, limit };
        }
        if taken.all >= self.limit {
            let (what, limit) = ("handshakes", self.limit);
            return Admission::Full { what, limit };
        }
        taken.all += 1;
        taken.by_address.insert(address, of_address + 1);
        Admission::Admitted(Handshake {
            handshakes: self.clone(),
            address,
        })
    }
}

/// What counts as one address: of IPv6 the network, since who has one address has all of it.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
        v4 => v4,
    }
}

/// A place, given back when dropped.
pub(super) struct Handshake {
    handshakes: Arc<Handshakes>,
    address: IpAddr,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut taken = lock(&self.handshakes.taken);
        taken.all -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn admitted(admission: Admission) -> Handshake {
        match admission {
            Admission::Admitted(handshake) => handshake,
            Admission::Unproved => panic!("it is to prove its address"),
            Admission::Full { what, limit } => panic!("{what}: {limit}"),
        }
    }

    #[test]
    fn forged_addresses_get_a_part_and_the_rest_is_for_proved_ones() {
        let handshakes = Handshakes::new(8, 8);
        let forged = |n: u8| handshakes.admit([10, 0, 0, n].into(), false);
        let mut held = vec![admitted(forged(1)), admitted(forged(2))];
        assert!(matches!(forged(3), Admission::Unproved));
        for n in 3..9 {
            held.push(admitted(handshakes.admit([10, 0, 0, n].into(), true)));
        }
        let ninth = handshakes.admit([10, 0, 0, 9].into(), true);
        assert!(matches!(ninth, Admission::Full { limit: 8, .. }));
        held.pop();
        admitted(handshakes.admit([10, 0, 0, 9].into(), true));
    }

    #[test]
    fn an_address_has_its_share_and_forging_it_takes_only_a_part_of_that() {
        let handshakes = Handshakes::new(1000, 8);
        let one = address("192.0.2.1");
        let mut held: Vec<_> = (0..2)
            .map(|_| admitted(handshakes.admit(one, false)))
            .collect();
        assert!(matches!(handshakes.admit(one, false), Admission::Unproved));
        held.extend((2..8).map(|_| admitted(handshakes.admit(one, true))));
        let ninth = handshakes.admit(one, true);
        assert!(matches!(ninth, Admission::Full { limit: 8, .. }));
        admitted(handshakes.admit(address("192.0.2.2"), false));
        drop(held);
        let taken = lock(&handshakes.taken);
        assert_eq!((taken.all, taken.by_address.len()), (0, 0));
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let handshakes = Handshakes::new(1000, 1);
        let _first = admitted(handshakes.admit(address("2001:db8::1"), true));
        let second = handshakes.admit(address("2001:db8::ffff:2"), true);
        assert!(matches!(second, Admission::Full { limit: 1, .. }));
        let _other = admitted(handshakes.admit(address("2001:db8:0:1::1"), true));
        let _mapped = admitted(handshakes.admit(address("::ffff:192.0.2.1"), true));
        let v4 = handshakes.admit(address("192.0.2.1"), true);
        assert!(matches!(v4, Admission::Full { .. }));
    }
}
