//! The server's end of links: CONNECT goes to its shard, packets follow, and what is written waits
//! until the Client reads.

use tidings_core::codec::{Packet, Version, decode};
use tidings_core::output::ConnectionId;
use tidings_core::shard::{Input, Open, session_slot};
use tidings_core::time::Time;

use super::{Around, Mail, OUTBOUND_HARD_BYTES, OUTBOUND_SOFT_BYTES, Process, Served, Witness};

impl Process {
    /// Up to `most` bytes of what came on a link are read.
    pub(crate) fn read_link<W: Witness>(
        &mut self,
        id: usize,
        user: &str,
        most: usize,
        around: &mut Around<'_, W>,
    ) -> bool {
        let link = &mut around.links[id];
        if !link.introduced {
            return self.introduce(id, user, around);
        }
        let Some(served) = self.served.get_mut(&id) else { return false };
        let connection = ConnectionId(id as u64);
        if !served.open {
            return false;
        }
        let node = &self.nodes[served.shard];
        if node.store.backlog().is_full()
            || node.shard.is_behind(connection)
            || served.parting && node.shard.is_answering(connection)
        {
            return false;
        }
        if link.up.is_empty() && !served.parting {
            if !link.reset {
                return false;
            }
            let shard = served.shard;
            around.trace.note("lost", id, &[]);
            self.served.remove(&id);
            link.server_gone = true;
            self.handle(shard, Input::Closed { connection }, around);
            return true;
        }
        let length = most.max(1).min(link.up.len());
        served.input.extend(link.up.drain(..length));
        self.receive(id, around);
        true
    }

    fn receive<W: Witness>(&mut self, id: usize, around: &mut Around<'_, W>) {
        let connection = ConnectionId(id as u64);
        let Some(served) = self.served.get_mut(&id) else { return };
        let (shard, version) = (served.shard, served.version);
        let input = std::mem::take(&mut served.input);
        let mut used = 0;
        served.parting = false;
        while used < input.len() {
            match decode(&input[used..], version, usize::MAX) {
                Ok(None) => break,
                Ok(Some((Packet::Disconnect(_), _)))
                    if self.nodes[shard].shard.is_answering(connection) =>
                {
                    if let Some(served) = self.served.get_mut(&id) {
                        served.parting = true;
                    }
                    break;
                }
                Ok(Some((packet, length))) => {
                    around.trace.note("from", id, &input[used..used + length]);
                    used += length;
                    let heard = packet.clone();
                    self.handle(shard, Input::Received { connection, packet }, around);
                    let appended = self.nodes[shard].appended;
                    around.witness.heard(id, &around.links[id], &heard, shard, appended);
                }
                Err(cause) => panic!("a Client sent what is no packet: {cause}"),
            }
        }
        if let Some(served) = self.served.get_mut(&id) {
            served.input = input[used..].to_vec();
        }
    }

    /// The front reads CONNECT and sends the connection to its shard.
    fn introduce<W: Witness>(&mut self, id: usize, user: &str, around: &mut Around<'_, W>) -> bool {
        let link = &mut around.links[id];
        if self.stopping {
            let open = !link.server_gone;
            link.server_gone = true;
            return open;
        }
        let Ok(Some((Packet::Connect(connect), length))) =
            decode(&link.up, Version::V5, usize::MAX)
        else {
            // Half a CONNECT, and no more will come.
            let over = link.reset && !link.server_gone;
            link.server_gone |= link.reset;
            return over;
        };
        let slot = session_slot(user, connect.client_id);
        let shard = usize::from(slot.shard(u16::try_from(self.nodes.len()).unwrap()).0);
        let bytes = link.up.drain(..length).collect();
        link.introduced = true;
        self.nodes[shard].mail.push_back(Mail::Connection(id, user.to_owned(), bytes));
        true
    }

    pub(super) fn open<W: Witness>(
        &mut self,
        shard: usize,
        id: usize,
        user: &str,
        bytes: &[u8],
        around: &mut Around<'_, W>,
    ) {
        let Ok(Some((Packet::Connect(connect), _))) = decode(bytes, Version::V5, usize::MAX) else {
            panic!("a CONNECT was read before");
        };
        around.trace.note("open", id, bytes);
        let served = Served {
            shard,
            version: connect.version,
            open: false,
            input: Vec::new(),
            congested: false,
            parting: false,
        };
        self.served.insert(id, served);
        let open = Open {
            connection: ConnectionId(id as u64),
            user,
            client_id: connect.client_id,
            assigned: false,
            expires: Time::NEVER,
            authentication_data: &[],
            connect,
        };
        self.handle(shard, Input::Open(open), around);
    }

    /// The Client has read: its shard may be told that there is room.
    pub(crate) fn drained<W: Witness>(&mut self, id: usize, around: &mut Around<'_, W>) {
        let Some(served) = self.served.get_mut(&id) else { return };
        if served.congested && around.links[id].down.len() <= OUTBOUND_SOFT_BYTES / 4 {
            served.congested = false;
            let (shard, connection) = (served.shard, ConnectionId(id as u64));
            self.handle(shard, Input::Congested { connection, congested: false }, around);
        }
    }

    /// The server hears an acknowledgement that no Client sent, or the like.
    pub(crate) fn forge<W: Witness>(
        &mut self,
        id: usize,
        packet: Packet<'_>,
        around: &mut Around<'_, W>,
    ) {
        let Some(served) = self.served.get(&id).filter(|it| it.open) else { return };
        let (shard, connection) = (served.shard, ConnectionId(id as u64));
        self.handle(shard, Input::Received { connection, packet }, around);
    }

    /// A link was written to: is that too much for it?
    pub(super) fn weigh<W: Witness>(
        &mut self,
        shard: usize,
        id: usize,
        around: &mut Around<'_, W>,
    ) {
        let Some(served) = self.served.get_mut(&id) else { return };
        let unwritten = around.links[id].down.len();
        assert!(unwritten <= OUTBOUND_HARD_BYTES, "byte limits: {unwritten} bytes wait on {id}");
        let congested = if served.congested {
            unwritten > OUTBOUND_SOFT_BYTES / 4
        } else {
            unwritten > OUTBOUND_SOFT_BYTES
        };
        if congested != served.congested {
            served.congested = congested;
            let connection = ConnectionId(id as u64);
            self.handle(shard, Input::Congested { connection, congested }, around);
        }
    }
}
