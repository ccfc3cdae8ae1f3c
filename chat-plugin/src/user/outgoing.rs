//! What leaves the users' side: to chats, to other users, to the store, to Clients.
//!
//! Nothing here is an answer from the same call: also what goes to this very shard comes back
//! through `handle`, behind what is on its way already.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::codec::QoS;
use tidings_core::hook::Host;
use tidings_core::message::Message;
use tidings_core::record::{Op, Position, Record};

use crate::peer::{ChatInput, Peer, ToChat, ToPair, ToUser};
use crate::topics::View;
use crate::topics::{Place, pool_slot, user_slot};

pub(super) fn to_chat(place: &Arc<Place>, what: ChatInput, host: &mut dyn Host) {
    let shard = place.shard(host.shards());
    host.send(shard, Box::new(Peer::Chat(ToChat { place: Arc::clone(place), what })));
}

pub(super) fn to_user(user: &str, what: ToUser, host: &mut dyn Host) {
    let shard = user_slot(user).shard(host.shards());
    host.send(shard, Box::new(Peer::User(what)));
}

pub(super) fn to_pool(pool: &str, what: ToPair, host: &mut dyn Host) {
    let shard = pool_slot(pool).shard(host.shards());
    host.send(shard, Box::new(Peer::Pair(what)));
}

pub(super) fn put(key: Bytes, value: Bytes, urgent: bool, host: &mut dyn Host) -> Position {
    host.store(Record { ops: vec![Op::Put { key, value }], urgent })
}

/// A message of the service's own.
pub(super) fn message(
    topic: String,
    payload: Bytes,
    qos: QoS,
    host: &mut dyn Host,
) -> Arc<Message> {
    Arc::new(Message {
        id: host.message_id(),
        topic: topic.into_boxed_str(),
        payload,
        qos,
        retain: false,
        properties: Bytes::new(),
        accepted: host.now(),
        expires: None,
    })
}

/// What several sessions are told, which do not all have the same view: made once for each view.
#[derive(Debug, Default)]
pub(super) struct PerView {
    json: Option<Arc<Message>>,
    cbor: Option<Arc<Message>>,
}

impl PerView {
    pub(super) fn in_view(
        &mut self,
        view: View,
        make: impl FnOnce() -> Arc<Message>,
    ) -> Arc<Message> {
        let message = match view {
            View::Json => &mut self.json,
            View::Cbor => &mut self.cbor,
        };
        Arc::clone(message.get_or_insert_with(make))
    }
}
