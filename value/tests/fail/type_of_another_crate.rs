use std::net::IpAddr;
use std::num::NonZeroU32;

use spore_value::Value;

#[derive(Value)]
struct Peer {
    address: IpAddr,
    connections: Option<NonZeroU32>,
}

fn main() {}
