//! The task behind a client: connects, sends what is due, sorts what comes in.
//!
//! It owns the connection and every unanswered send. The handles share with it what is in
//! [`Shared`], each part bounded, and wake it; nothing queues up for it otherwise.

use crate::entry::{Entry, Event, Presence};
use crate::error::NotStored;
use crate::hub::lock;
use crate::inbox::Received;
use crate::options::ConnectOptions;
use crate::pending::{Done, Pending};
use crate::shared::Shared;
use crate::transport::{Happened, Link, Lost, Opened, Outgoing, Transport};
use crate::wire::{self, Heard};
use crate::writer::{Accepted, Job};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// The task.
#[derive(Debug)]
pub(crate) struct Engine<T> {
    pub(crate) transport: T,
    pub(crate) options: ConnectOptions,
    pub(crate) shared: Arc<Shared>,
    pub(crate) accepted: mpsc::UnboundedReceiver<Accepted>,
    pub(crate) jobs: mpsc::UnboundedSender<Job>,
    pub(crate) pending: Pending,
    pub(crate) next_token: u64,
}

/// What belongs to one connection.
struct Online<L> {
    link: L,
    window: usize,
    /// Read positions on their way: token to chat and seq.
    reading: BTreeMap<u64, (String, u64)>,
    subscribed: BTreeSet<String>,
    unclaimed: BTreeSet<String>,
}

impl<T: Transport> Engine<T> {
    pub(crate) async fn run(mut self) {
        let mut backoff = self.options.backoff_min;
        while !self.shared.is_closing() {
            let Some(connected) = self.connect().await else { break };
            let lost = match connected {
                Err(lost) => lost,
                Ok((link, opened)) => {
                    let since = Instant::now();
                    let lost = self.online(link, opened).await;
                    if since.elapsed() >= STEADY {
                        backoff = self.options.backoff_min;
                    }
                    lost
                }
            };
            if self.shared.is_closing() {
                break;
            }
            // Whoever took the device over would be thrown out in turn, for ever.
            if lost == Lost::TakenOver {
                backoff = self.options.backoff_max;
            }
            let retry_in = jittered(backoff);
            backoff = backoff.saturating_mul(2).min(self.options.backoff_max);
            self.tell_state(Event::Disconnected { reason: lost, retry_in: Some(retry_in) });
            self.wait(retry_in).await;
        }
        self.tell_state(Event::Disconnected { reason: Lost::Closed, retry_in: None });
        let (closed, done) = oneshot::channel();
        if self.jobs.send(Job::Close(closed)).is_ok() {
            let _ = done.await;
        }
        self.shared.end();
    }

    /// None when the client was closed meanwhile.
    async fn connect(&mut self) -> Option<Result<(T::Link, Opened), Lost>> {
        let connecting = self.transport.connect();
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                connected = &mut connecting => return Some(connected),
                Some(accepted) = self.accepted.recv() => {
                    self.pending.insert(accepted);
                    self.shared.unanswered.store(self.pending.len(), Ordering::Relaxed);
                }
                () = self.shared.wake.notified() => {
                    if self.shared.is_closing() {
                        return None;
                    }
                }
            }
        }
    }

    async fn wait(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        while !self.shared.is_closing() {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                Some(accepted) = self.accepted.recv() => self.accept(accepted),
                () = self.shared.wake.notified() => {}
            }
        }
    }

    async fn online(&mut self, link: T::Link, opened: Opened) -> Lost {
        // One place is left free: rumqttc holds back acknowledgements while its window is full.
        let window = opened.receive_maximum.saturating_sub(1).clamp(1, self.options.in_flight_max);
        let mut online = Online {
            link,
            window: usize::from(window),
            reading: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            unclaimed: BTreeSet::new(),
        };
        self.pending.handle_connected();
        self.shared.inbox.handle_connected();
        if let Err(lost) = online.link.subscribe(wire::OWN_FILTER, true) {
            return lost;
        }
        self.tell_state(Event::Connected { session_present: opened.session_present });
        while !self.shared.is_closing() {
            if let Err(lost) = self.service(&mut online) {
                return lost;
            }
            let timeout = self.pending.next_timeout();
            let timeout = timeout.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                happened = online.link.next() => {
                    let handled = happened.and_then(|one| self.handle(&mut online, one));
                    if let Err(lost) = handled {
                        return lost;
                    }
                }
                Some(accepted) = self.accepted.recv() => self.accept(accepted),
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(timeout) => {}
            }
        }
        self.leave(online).await
    }

    /// Says what is left to say, then DISCONNECT; the broker has a second to close.
    async fn leave(&mut self, mut online: Online<T::Link>) -> Lost {
        let said = self.acknowledge(&mut online).and_then(|()| self.report_reads(&mut online));
        if let Err(lost) = said {
            return lost;
        }
        online.link.disconnect();
        let ended = async { while online.link.next().await.is_ok() {} };
        let _ = tokio::time::timeout(LEAVE, ended).await;
        Lost::Closed
    }

    fn accept(&mut self, accepted: Accepted) {
        self.pending.insert(accepted);
        self.count();
    }

    fn count(&self) {
        self.shared.unanswered.store(self.pending.len(), Ordering::Relaxed);
    }

    /// Brings the connection in line with what the handles want.
    fn service(&mut self, online: &mut Online<T::Link>) -> Result<(), Lost> {
        self.acknowledge(online)?;
        self.watch(online)?;
        self.report_reads(online)?;
        let now = Instant::now();
        while let Some(done) = self.pending.next_settled(now) {
            self.done(done);
        }
        while self.pending.in_flight() + online.reading.len() < online.window {
            let token = self.next_token;
            let Some(send) = self.pending.next(token, now) else { break };
            self.next_token += 1;
            let topic = wire::send_topic(&send.chat, &send.id);
            online.link.publish(Outgoing { token, topic, payload: send.payload.clone() })?;
        }
        Ok(())
    }

    fn acknowledge(&self, online: &mut Online<T::Link>) -> Result<(), Lost> {
        self.shared.inbox.take_due().into_iter().try_for_each(|n| online.link.acknowledge(n))
    }

    fn watch(&self, online: &mut Online<T::Link>) -> Result<(), Lost> {
        let mut watched = lock(&self.shared.watched);
        watched.retain(|_, watched| !watched.hub.is_deserted());
        for user in watched.keys().filter(|user| !online.subscribed.contains(*user)) {
            online.link.subscribe(&wire::presence_topic(user), true)?;
        }
        for user in online.subscribed.iter().filter(|user| !watched.contains_key(*user)) {
            online.link.subscribe(&wire::presence_topic(user), false)?;
        }
        online.subscribed = watched.keys().cloned().collect();
        Ok(())
    }

    /// One position of a chat is under way at a time; what is marked meanwhile goes as one.
    fn report_reads(&mut self, online: &mut Online<T::Link>) -> Result<(), Lost> {
        let reads = lock(&self.shared.reads);
        for (chat, seq) in reads.iter() {
            if online.reading.len() >= online.window.div_ceil(2) {
                break;
            }
            if online.reading.values().any(|(under_way, _)| under_way == chat) {
                continue;
            }
            let token = self.next_token;
            self.next_token += 1;
            let payload = Bytes::from(seq.to_string());
            online.link.publish(Outgoing { token, topic: wire::read_topic(chat), payload })?;
            online.reading.insert(token, (chat.clone(), *seq));
        }
        Ok(())
    }

    fn handle(&mut self, online: &mut Online<T::Link>, happened: Happened) -> Result<(), Lost> {
        match happened {
            Happened::Alive => {}
            Happened::SubscriptionRefused { filter, reason } => {
                self.shared.events.tell(&Event::SubscriptionRefused { filter, reason });
            }
            Happened::Acknowledged { token, reason, text, properties } => {
                if let Some((chat, seq)) = online.reading.remove(&token) {
                    let mut reads = lock(&self.shared.reads);
                    // A later position of the chat may have been marked meanwhile; a refused one
                    // would be refused again.
                    if reads.get(&chat).is_some_and(|marked| *marked <= seq) {
                        reads.remove(&chat);
                    }
                    return Ok(());
                }
                self.handle_puback(token, reason, text, &properties);
            }
            Happened::Received { topic, payload, number } => {
                return self.handle_publish(online, &topic, &payload, number);
            }
        }
        Ok(())
    }

    fn handle_puback(
        &mut self,
        token: u64,
        reason: u8,
        text: Option<String>,
        properties: &[(String, String)],
    ) {
        let now = Instant::now();
        let property = |name: &str| {
            properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let seq = property("seq").and_then(|seq| seq.parse::<u64>().ok());
        let done = match (reason, seq) {
            (0x80.., _) => {
                let named = property("code");
                let code = named.unwrap_or_else(|| code_of(reason)).to_owned();
                let retry_after = property("retry_after").and_then(|ms| ms.parse().ok());
                let text = text.unwrap_or_else(|| format!("reason code 0x{reason:02x}"));
                let retry_after = retry_after.map(Duration::from_millis);
                // One that names its code says as well when to try again, if ever. Without names
                // (§3.4.2.2: they are left out where they would not fit) the message knows.
                let doubtful = named.is_none() && ["limit", "unavailable"].contains(&&*code);
                let refused = NotStored::Refused { code, text, retry_after };
                if doubtful {
                    self.pending.handle_doubtful(token, refused, now);
                    return;
                }
                self.pending.handle_answer(token, Err(refused), now)
            }
            (_, Some(seq)) => self.pending.handle_answer(token, Ok(seq), now),
            // A hint only: the broker took the publish, and its answer comes as a message.
            (_, None) => {
                self.pending.handle_acknowledged(token, now + self.options.answer_timeout);
                return;
            }
        };
        self.done(done);
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Unknown => {}
            Done::Postponed { chat, id, code, retry_in } => {
                self.shared.events.tell(&Event::Postponed { chat, id, code, retry_in });
            }
            Done::Finished { send, result, answer } => {
                // The writer ends after this task only.
                let _ = self.jobs.send(Job::Finish(send.number));
                self.count();
                let unheard = match answer {
                    Some(answer) => answer.send(result).err(),
                    None => Some(result),
                };
                let (chat, id) = (send.chat, send.id);
                match unheard {
                    None => {}
                    Some(Ok(seq)) => self.shared.events.tell(&Event::Stored { chat, id, seq }),
                    Some(Err(error)) => {
                        self.shared.events.tell(&Event::NotStored { chat, id, error });
                    }
                }
            }
        }
    }

    fn handle_publish(
        &mut self,
        online: &mut Online<T::Link>,
        topic: &str,
        payload: &[u8],
        number: Option<u16>,
    ) -> Result<(), Lost> {
        match wire::parse(topic, payload) {
            Ok(Heard::Entry(entry)) => return self.handle_entry(online, entry, number),
            Ok(Heard::Answer { chat, id, answer }) => {
                let now = Instant::now();
                let done = self.pending.handle_answer_by_id(&chat, &id, answer, now);
                self.done(done);
            }
            Ok(Heard::Refused { chat, code, text }) => {
                self.shared.events.tell(&Event::Refused { chat, code, text });
            }
            Ok(Heard::Receipt(receipt)) => self.shared.receipts.tell(&receipt),
            Ok(Heard::Presence(presence)) => self.handle_presence(presence),
            Ok(Heard::Ended { chat }) => {
                self.shared.inbox.handle_ended(&chat);
                self.shared.events.tell(&Event::Ended { chat });
            }
            Ok(Heard::Other) => {}
            Err(cause) => {
                self.shared.events.tell(&Event::Unreadable { topic: topic.to_owned(), cause });
            }
        }
        number.map_or(Ok(()), |number| online.link.acknowledge(number))
    }

    fn handle_entry(
        &self,
        online: &mut Online<T::Link>,
        entry: Entry,
        number: Option<u16>,
    ) -> Result<(), Lost> {
        let chat = entry.chat.clone();
        match self.shared.inbox.handle_entry(entry, number) {
            Received::Waiting | Received::Duplicate => {}
            Received::Unclaimed => {
                // Said once a connection and chat; chats are as many as entries that wait.
                if online.unclaimed.insert(chat.clone()) {
                    self.shared.events.tell(&Event::Unclaimed { chat });
                }
            }
            // [MQTT-3.3.4-9]; the new connection brings the entry again. At QoS 0 it is gone.
            Received::Full if number.is_some() => {
                let cause = "the broker sent more than the Receive Maximum".to_owned();
                return Err(Lost::Ended { cause });
            }
            Received::Full => {}
        }
        Ok(())
    }

    fn handle_presence(&self, presence: Presence) {
        let mut watched = lock(&self.shared.watched);
        let Some(watched) = watched.get_mut(&presence.user) else { return };
        if watched.last.as_ref().is_some_and(|last| last.epoch > presence.epoch) {
            return;
        }
        watched.hub.tell(&presence);
        watched.last = Some(presence);
    }

    fn tell_state(&self, event: Event) {
        // The order of state and event is what a new listener sees: never both, never neither.
        let mut state = lock(&self.shared.state);
        self.shared.events.tell(&event);
        *state = Some(event);
    }
}

/// The protocol's code for a PUBACK that names none (§3.4.2.1).
fn code_of(reason: u8) -> &'static str {
    match reason {
        0x87 => "forbidden",
        0x90 => "unknown_chat",
        0x97 => "limit",
        0x99 => "format",
        _ => "unavailable",
    }
}

/// Half of the wait is fixed, half random.
fn jittered(wait: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    wait / 2 + (wait / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// A connection that held this long was a good one: the next wait is the shortest again.
const STEADY: Duration = Duration::from_secs(10);

/// How long the broker may take to close after DISCONNECT.
const LEAVE: Duration = Duration::from_secs(1);
