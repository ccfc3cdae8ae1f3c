//! The bare relay: what the sockets alone cost. It reads, looks up who hears a topic, and writes.
//!
//! No sessions, no wildcards, no resends, no limits but one: what a subscriber does not read beyond
//! `WAITING_MAX` is dropped. It reads and writes in batches as a good broker does, so a broker that
//! costs as much does nothing in vain, and one that costs less has found something.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use clap::Args;

use crate::load::clock::Clock;
use crate::load::mesh::{Actor, Gone, Mesh, Outs};
use crate::load::template::packet_id;
use crate::load::wire::{
    AckKind, Packet, QoS, Version, put_ack, put_connack, put_pingresp, put_publish, put_suback,
};

/// Bytes that may wait for a subscriber.
const WAITING_MAX: usize = 16 << 20;
/// Filters of a connection.
const FILTERS_MAX: usize = 1024;

/// What `tidings-bench relay` is told.
#[derive(Debug, Clone, Args)]
pub struct RelayOptions {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "ADDR")]
    pub listen: SocketAddr,
}

#[derive(Debug, Default)]
struct Peer {
    version: Version,
    filters: Vec<Vec<u8>>,
    sent: u64,
}

#[derive(Debug, Default)]
struct Switch {
    /// Who hears a topic, with which QoS.
    subscribers: HashMap<Vec<u8>, Vec<(usize, QoS)>>,
    peers: Vec<Peer>,
}

/// A relay that listens.
#[derive(Debug)]
pub struct Relay {
    listener: TcpListener,
    address: SocketAddr,
}

impl Relay {
    /// Listens.
    pub fn start(options: &RelayOptions) -> Result<Self, String> {
        let listen = |error| format!("--listen {}: {error}", options.listen);
        let listener = TcpListener::bind(options.listen).map_err(listen)?;
        // std's backlog is short for a storm.
        rustix::net::listen(&listener, 4096).map_err(|error| listen(error.into()))?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves, for as long as `goes_on` says so.
    pub fn run(self, goes_on: impl Fn() -> bool) -> Result<(), String> {
        let failed = |error: io::Error| error.to_string();
        let mut mesh = Mesh::new(Version::V311, Clock::start()).map_err(failed)?;
        mesh.listen(self.listener).map_err(failed)?;
        let mut switch = Switch::default();
        while goes_on() {
            mesh.turn(Duration::from_millis(100), &mut switch).map_err(failed)?;
        }
        Ok(())
    }
}

impl Switch {
    fn forget(&mut self, at: usize) {
        let Some(peer) = self.peers.get_mut(at) else { return };
        for filter in std::mem::take(peer).filters {
            if let Some(subscribers) = self.subscribers.get_mut(&filter) {
                subscribers.retain(|(who, _)| *who != at);
                if subscribers.is_empty() {
                    self.subscribers.remove(&filter);
                }
            }
        }
    }
}

impl Actor for Switch {
    #[inline]
    fn packet(&mut self, at: usize, packet: &Packet<'_>, outs: &mut Outs, _now: u64) {
        match *packet {
            Packet::Publish { qos, topic, packet_id: id, payload } => {
                for (who, granted) in self.subscribers.get(topic).into_iter().flatten() {
                    let Some(to) = self.peers.get_mut(*who) else { continue };
                    if outs.waiting(*who) > WAITING_MAX {
                        continue;
                    }
                    let (version, with) = (to.version, (qos.min(*granted), packet_id(to.sent)));
                    to.sent += 1;
                    outs.put(*who, |out| put_publish(out, version, with, topic, payload));
                }
                match qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => outs.put(at, |out| put_ack(out, AckKind::Puback, id)),
                    QoS::ExactlyOnce => outs.put(at, |out| put_ack(out, AckKind::Pubrec, id)),
                }
            }
            Packet::Ack { kind: AckKind::Pubrec, packet_id, .. } => {
                outs.put(at, |out| put_ack(out, AckKind::Pubrel, packet_id));
            }
            Packet::Ack { kind: AckKind::Pubrel, packet_id, .. } => {
                outs.put(at, |out| put_ack(out, AckKind::Pubcomp, packet_id));
            }
            Packet::Connect { version } => {
                if let Some(peer) = self.peers.get_mut(at) {
                    peer.version = version;
                }
                outs.put(at, |out| put_connack(out, version));
            }
            Packet::Subscribe { packet_id, filter, qos } => {
                let Some(peer) = self.peers.get_mut(at) else { return };
                if peer.filters.len() == FILTERS_MAX {
                    return outs.end(at);
                }
                let subscribers = self.subscribers.entry(filter.to_vec()).or_default();
                if !subscribers.iter().any(|(who, _)| *who == at) {
                    subscribers.push((at, qos));
                    peer.filters.push(filter.to_vec());
                }
                let version = peer.version;
                outs.put(at, |out| put_suback(out, version, packet_id, qos));
            }
            Packet::Pingreq => outs.put(at, put_pingresp),
            Packet::Disconnect { .. } => {
                self.forget(at);
                outs.end(at);
            }
            _ => {}
        }
    }

    fn gone(&mut self, at: usize, _why: &Gone) {
        self.forget(at);
    }

    fn accepted(&mut self, at: usize) {
        if self.peers.len() <= at {
            self.peers.resize_with(at + 1, Peer::default);
        }
    }
}
