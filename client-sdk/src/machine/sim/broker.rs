//! What the model of the broker does: the protocol, as small as it will go.

use super::{Log, Sim, ToBroker, ToClient, USERS, name, number, other};
use crate::transport::Outgoing;
use serde_json::{Value, json};

impl Sim {
    pub(super) fn receive(&mut self, user: usize, packet: ToBroker) {
        match packet {
            ToBroker::Subscribe => {
                self.sessions[user].subscribed = true;
                self.down(user, ToClient::Subscribed);
            }
            ToBroker::Acknowledge(packet) => {
                let wire = self.clients[user].wire.as_mut().unwrap();
                let Some((chat, from, to)) = wire.sent.remove(&packet) else { return };
                let here = self.stored(user, &name(chat, user));
                for seq in from..=to {
                    let own = self.logs[chat].entries[seq as usize - 1]["from"] == USERS[user];
                    assert!(
                        own || here.contains_key(&seq),
                        "seed {}: {user} acknowledged {chat}/{seq} before it was safe",
                        self.seed
                    );
                }
                let cursor = &mut self.sessions[user].cursors[chat];
                *cursor = (*cursor).max(to);
                let cursor = *cursor;
                self.logs[chat].delivered[user] = cursor.max(self.logs[chat].delivered[user]);
                self.receipt(user, chat);
            }
            ToBroker::Publish(publish) => self.publish(user, publish),
        }
    }

    pub(super) fn receipt(&mut self, user: usize, chat: usize) {
        let log = &self.logs[chat];
        let (delivered, read) = (log.delivered[user], log.read[user]);
        let json = json!({ "user": USERS[user], "delivered": delivered, "read": read });
        let to = other(user);
        let topic = format!("me/json/{}/receipt", name(chat, to));
        // QoS 0: lost now and then.
        if self.calm || self.rng.below(3) > 0 {
            let payload = json.to_string();
            self.down(to, ToClient::Publish { topic, payload, packet: None });
        }
    }

    pub(super) fn publish(&mut self, user: usize, publish: Outgoing) {
        let Outgoing { token, topic, payload, .. } = publish;
        let answer = |reason, properties: &[(&str, String)]| {
            let owned = |(key, value): &(&str, String)| ((*key).to_owned(), value.clone());
            let properties = properties.iter().map(owned).collect();
            ToClient::Acknowledged { token, reason, properties }
        };
        let levels: Vec<&str> = topic.split('/').collect();
        match levels[..] {
            ["chat", chat, "send", id] => {
                let chat = number(chat);
                if !self.calm && self.rng.below(12) == 0 {
                    let wait = 100 + self.rng.below(900);
                    let said = match self.rng.below(3) {
                        0 => answer(0x97, &[]),
                        _ => {
                            let (limit, wait) = ("limit".to_owned(), wait.to_string());
                            answer(0x97, &[("code", limit), ("retry_after", wait)])
                        }
                    };
                    return self.down(user, said);
                }
                let log = &mut self.logs[chat];
                let key = (user, id.to_owned());
                let seq = match log.ids.get(&key) {
                    Some(seq) => *seq,
                    None => {
                        let seq = log.entries.len() as u64 + 1;
                        let text = std::str::from_utf8(&payload).unwrap();
                        log.entries.push(json!({
                            "seq": seq, "from": USERS[user], "time": seq, "id": id, "text": text,
                        }));
                        log.ids.insert(key, seq);
                        seq
                    }
                };
                let (seq, time) = (seq.to_string(), seq.to_string());
                self.down(user, answer(0, &[("seq", seq), ("time", time)]));
            }
            ["chat", chat, "read"] => {
                let chat = number(chat);
                let seq: u64 = std::str::from_utf8(&payload).unwrap().parse().unwrap();
                let log = &mut self.logs[chat];
                log.read[user] = log.read[user].max(seq.min(log.entries.len() as u64));
                log.delivered[user] = log.delivered[user].max(log.read[user]);
                self.down(user, answer(0, &[]));
                self.receipt(user, chat);
            }
            ["chat", chat_name, "history"] => {
                let chat = number(chat_name);
                let asked: Value = serde_json::from_slice(&payload).unwrap();
                let log = &self.logs[chat];
                let last = log.entries.len() as u64;
                let from = asked["from"].as_u64().unwrap();
                // Now and then it answers less than was asked for.
                let most = 1 + self.rng.below(20);
                let to = asked["to"].as_u64().unwrap().min(last).min(from + most - 1);
                let gone = (from <= log.gone).then(|| [from, to.min(log.gone)]);
                let kept = from.max(log.gone + 1);
                let entries = log.entries.get(kept as usize - 1..to as usize).unwrap_or_default();
                let json = json!({
                    "request": asked["request"], "from": from, "to": to, "last": last,
                    "entries": entries, "gone": gone.into_iter().collect::<Vec<_>>(),
                });
                self.answer(user, chat_name, "history", &json);
                self.down(user, answer(0, &[]));
            }
            ["me", "sync"] => {
                let asked: Value = serde_json::from_slice(&payload).unwrap();
                let of = |(chat, log): (usize, &Log)| {
                    let last = log.entries.len() as u64;
                    let read = log.read[user];
                    let unread = log.entries.iter().skip(read as usize);
                    let unread = unread.filter(|entry| entry["from"] != USERS[user]).count();
                    let other = other(user);
                    let (delivered, others_read) = (log.delivered[other], log.read[other]);
                    (last > 0).then(|| {
                        json!({
                            "chat": name(chat, user), "last": last, "time": last, "read": read,
                            "unread": unread, "others": [{
                                "user": USERS[other], "delivered": delivered, "read": others_read,
                            }],
                        })
                    })
                };
                let chats: Vec<Value> = self.logs.iter().enumerate().filter_map(of).collect();
                let json = json!({ "request": asked["request"], "chats": chats });
                self.answer(user, "-", "sync", &json);
                self.down(user, answer(0, &[]));
            }
            _ => panic!("{topic}"),
        }
    }

    pub(super) fn answer(&mut self, user: usize, chat: &str, kind: &str, json: &Value) {
        let topic = format!("me/json/{chat}/{kind}");
        let Some(wire) = &mut self.clients[user].wire else { return };
        wire.next_packet += 1;
        let (payload, packet) = (json.to_string(), Some(wire.next_packet));
        self.down(user, ToClient::Publish { topic, payload, packet });
    }

    pub(super) fn down(&mut self, user: usize, packet: ToClient) {
        if let Some(wire) = &mut self.clients[user].wire {
            wire.down.push_back(packet);
        }
    }

    /// Delivers what a session lacks, as far as its window goes: alone, or several at once.
    pub(super) fn deliver(&mut self, user: usize, chat: usize) {
        if !self.sessions[user].subscribed {
            return;
        }
        let batch = 1 + self.rng.below(3);
        let Some(wire) = &mut self.clients[user].wire else { return };
        let log = &self.logs[chat];
        let from = wire.offered[chat].max(self.sessions[user].cursors[chat]).max(log.gone) + 1;
        let to = (from + batch - 1).min(log.entries.len() as u64);
        if from > to || wire.sent.len() >= 4 {
            return;
        }
        wire.offered[chat] = to;
        let own = |entry: &&Value| entry["from"] != USERS[user];
        let entries: Vec<&Value> =
            log.entries[from as usize - 1..to as usize].iter().filter(own).collect();
        if entries.is_empty() {
            return;
        }
        wire.next_packet += 1;
        wire.sent.insert(wire.next_packet, (chat, from, to));
        let (kind, payload) = match entries[..] {
            [alone] => ("message", alone.to_string()),
            _ => ("batch", json!(entries).to_string()),
        };
        let topic = format!("me/json/{}/{kind}", name(chat, user));
        let packet = Some(wire.next_packet);
        wire.down.push_back(ToClient::Publish { topic, payload, packet });
    }
}
