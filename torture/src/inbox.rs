//! What one Session heard, judged as it comes.
//!
//! Knows the Session's side of QoS 2, and when what was acknowledged, so that a message that comes
//! again can be told from one that may. It outlives connections, as the Session does.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use tidings_core::codec::{PacketId, PacketKind, QoS};

use crate::scene::{Promise, Scene, count};
use crate::wire::Publish;

/// A message: which stream, which number.
pub(crate) type Name = (usize, u64);

/// The payload of a message: its name, and as many bytes more.
pub(crate) fn payload((stream, number): Name, more: usize) -> Vec<u8> {
    let mut payload = format!("{stream} {number} ").into_bytes();
    payload.resize(payload.len() + more, b'.');
    payload
}

fn name(payload: &[u8]) -> Option<Name> {
    let text = std::str::from_utf8(payload).ok()?;
    let mut words = text.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// What is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) kind: PacketKind,
    pub(crate) id: PacketId,
    /// Of what it is the acknowledgement that counts.
    pub(crate) of: Option<Name>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    who: String,
    streams: BTreeMap<usize, Heard>,
    /// Of QoS 2, between PUBREC and PUBREL.
    unreleased: HashMap<PacketId, Name>,
    /// The number of the connection, and when the earlier ones ended.
    connection: u64,
    ends: HashMap<u64, (Instant, Duration)>,
    /// What went over the wire at QoS 2, for evidence.
    history: VecDeque<Event>,
}

/// A packet of QoS 2, either way.
#[derive(Debug, Clone, Copy)]
struct Event {
    at: Instant,
    connection: u64,
    packet: &'static str,
    id: PacketId,
    name: Option<Name>,
}

/// How many of them are remembered.
const HISTORY: usize = 20_000;

/// What was heard of a stream.
#[derive(Debug, Default)]
struct Heard {
    /// The first number that was not heard, and none behind it.
    next: u64,
    /// Those before it that were not heard either.
    missing: BTreeSet<u64>,
    unacknowledged: HashSet<u64>,
    acknowledged: HashMap<u64, (Instant, u64)>,
}

/// How long it is remembered when something was acknowledged.
const REMEMBERED: Duration = Duration::from_secs(3);

impl Inbox {
    pub(crate) fn new(who: impl Into<String>, streams: impl Iterator<Item = usize>) -> Self {
        let streams = streams.map(|it| (it, Heard::default())).collect();
        Self { who: who.into(), streams, ..Self::default() }
    }

    /// A connection begins; `present` is whether the broker has the Session.
    pub(crate) fn connected(&mut self, present: bool) {
        self.connection += 1;
        if !present {
            self.unreleased.clear();
        }
    }

    /// The connection ended, with the broker so far behind.
    pub(crate) fn disconnected(&mut self, behind: Duration) {
        self.ends.insert(self.connection, (Instant::now(), behind));
    }

    /// Hears a PUBLISH, and says what to answer.
    pub(crate) fn hear(&mut self, publish: &Publish, scene: &Scene) -> Option<Answer> {
        let name = name(&publish.payload);
        let Some(name) = name.filter(|it| self.streams.contains_key(&it.0)) else {
            let evidence = format!("{}: not subscribed to {:?}", self.who, publish.topic);
            scene.fault(Promise::Subscription, evidence);
            return None;
        };
        let id = publish.id?;
        if publish.qos == QoS::ExactlyOnce {
            self.note(if publish.dup { "PUBLISH (DUP)" } else { "PUBLISH" }, id, Some(name));
            let answer = Answer { kind: PacketKind::Pubrec, id, of: None };
            match self.unreleased.insert(id, name) {
                Some(before) if before == name => {
                    if !publish.dup {
                        self.without_dup(name, "QoS 2, the same identifier", scene);
                    }
                    return Some(answer);
                }
                Some(before) => {
                    let evidence = format!("{}: {id} is {before:?} and {name:?}", self.who);
                    scene.fault(Promise::PacketId, evidence);
                }
                None => {}
            }
            self.judge(name, publish, scene);
            return Some(answer);
        }
        self.judge(name, publish, scene);
        Some(Answer { kind: PacketKind::Puback, id, of: Some(name) })
    }

    /// Hears a PUBREL.
    pub(crate) fn release(&mut self, id: PacketId) -> Answer {
        let of = self.unreleased.remove(&id);
        self.note("PUBREL", id, of);
        Answer { kind: PacketKind::Pubcomp, id, of }
    }

    fn note(&mut self, packet: &'static str, id: PacketId, name: Option<Name>) {
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        let (at, connection) = (Instant::now(), self.connection);
        self.history.push_back(Event { at, connection, packet, id, name });
    }

    /// What was said of this message, and by the same identifier between.
    fn history(&self, name: Name) -> String {
        let of_name = || self.history.iter().filter(|it| it.name == Some(name));
        let ids: BTreeSet<_> = of_name().map(|it| it.id.get()).collect();
        let first = of_name().map(|it| it.at).next();
        let about =
            self.history.iter().filter(|it| Some(it.at) >= first && ids.contains(&it.id.get()));
        let told = about.map(|it| {
            format!(
                "{} ms ago on connection {}: {} {}{}",
                it.at.elapsed().as_millis(),
                it.connection,
                it.packet,
                it.id,
                if it.name.is_none_or(|it| it == name) { "" } else { " of another" }
            )
        });
        told.collect::<Vec<_>>().join("; ")
    }

    /// These answers have just been written.
    pub(crate) fn answered(&mut self, answers: &[Answer]) {
        for answer in answers.iter().filter(|it| it.kind != PacketKind::Puback) {
            let packet = if answer.kind == PacketKind::Pubrec { "PUBREC" } else { "PUBCOMP" };
            self.note(packet, answer.id, answer.of);
        }
        let (now, connection) = (Instant::now(), self.connection);
        for (stream, number) in answers.iter().filter_map(|it| it.of) {
            if let Some(heard) = self.streams.get_mut(&stream) {
                heard.unacknowledged.remove(&number);
                heard.acknowledged.insert(number, (now, connection));
            }
        }
    }

    fn judge(&mut self, name: Name, publish: &Publish, scene: &Scene) {
        let (stream, number) = name;
        let Some(heard) = self.streams.get_mut(&stream) else { return };
        if number >= heard.next {
            heard.missing.extend(heard.next..number);
            heard.next = number + 1;
            heard.unacknowledged.insert(number);
            count(&scene.counts.delivered);
            return;
        }
        if heard.missing.remove(&number) {
            heard.unacknowledged.insert(number);
            count(&scene.counts.delivered);
            let next = heard.next;
            scene.fault(
                Promise::Order,
                format!("{}: {number} of stream {stream} after {}", self.who, next - 1),
            );
            return;
        }
        let before = heard.acknowledged.get(&number).copied();
        let unknown = before.is_none() && !heard.unacknowledged.contains(&number);
        if publish.qos == QoS::ExactlyOnce {
            let evidence = format!(
                "{}: {number} of stream {stream} again at QoS 2; {}",
                self.who,
                self.history(name)
            );
            scene.fault(Promise::Twice, evidence);
            return;
        }
        // The broker need not know that the publisher sent it again.
        if scene.stream(stream).is_some_and(|it| it.again.contains(&number)) {
            count(&scene.counts.sent_again);
            return;
        }
        if !publish.dup {
            self.without_dup(name, "QoS 1", scene);
        }
        let evidence = format!("{}: {number} of stream {stream} again", self.who);
        match before {
            _ if unknown => scene.returned(None, &format!("{evidence}, acknowledged long ago")),
            None => count(&scene.counts.unacknowledged),
            Some((at, connection)) => {
                let age = scene.age(at, self.ends.get(&connection).copied());
                scene.returned(age, &evidence);
            }
        }
    }

    fn without_dup(&self, (stream, number): Name, what: &str, scene: &Scene) {
        count(&scene.counts.without_dup);
        let evidence =
            format!("{}: {number} of stream {stream} again without DUP ({what})", self.who);
        scene.fault(Promise::NoDup, evidence);
    }

    /// What was promised and has not come, if anything: how many, and the first.
    pub(crate) fn lacks(&self, scene: &Scene) -> Option<(u64, String)> {
        let (mut lacking, mut first) = (0, None);
        for (stream, heard) in &self.streams {
            let Some(of) = scene.stream(*stream) else { continue };
            let missing = heard.missing.iter().copied().chain(heard.next..of.next);
            for number in missing.filter(|it| !of.refused.contains(it)) {
                lacking += 1;
                if first.is_none() {
                    first = Some(format!("{}: {number} of stream {stream}", self.who));
                }
            }
        }
        first.map(|first| (lacking, first))
    }

    /// Gives up what is missing, so that it is told once.
    pub(crate) fn give_up(&mut self, scene: &Scene) {
        for (stream, heard) in &mut self.streams {
            heard.missing.clear();
            if let Some(of) = scene.stream(*stream) {
                heard.next = heard.next.max(of.next);
            }
        }
    }

    /// Forgets when old things were acknowledged.
    pub(crate) fn forget(&mut self) {
        for heard in self.streams.values_mut() {
            heard.acknowledged.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        let connection = self.connection;
        self.ends.retain(|it, end| *it + 1 >= connection || end.0.elapsed() < REMEMBERED * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(name: Name, qos: QoS, id: u16, dup: bool) -> Publish {
        let payload = payload(name, 3);
        Publish { topic: "t".into(), payload, qos, id: PacketId::new(id), dup }
    }

    fn scene() -> Scene {
        Scene::new("127.0.0.1:1".parse().unwrap(), 1, Duration::from_millis(100))
    }

    fn inbox() -> Inbox {
        let mut inbox = Inbox::new("bob", 0..1);
        inbox.connected(false);
        inbox
    }

    fn promises(scene: &Scene) -> Vec<Promise> {
        scene.faults(0).into_iter().map(|it| it.0).collect()
    }

    #[test]
    fn order_and_loss_are_told() {
        let (scene, mut bob) = (scene(), inbox());
        scene.stream(0).unwrap().next = 4;
        for number in [0, 2, 1] {
            bob.hear(&publish((0, number), QoS::AtLeastOnce, 1, false), &scene);
        }
        assert_eq!(promises(&scene), [Promise::Order]);
        assert_eq!(bob.lacks(&scene).unwrap().0, 1);
        scene.stream(0).unwrap().refused.insert(3);
        assert_eq!(bob.lacks(&scene), None);
    }

    #[test]
    fn what_was_acknowledged_may_not_come_again() {
        let (scene, mut bob) = (scene(), inbox());
        let first = publish((0, 0), QoS::AtLeastOnce, 1, false);
        let again = publish((0, 0), QoS::AtLeastOnce, 1, true);
        let answer = bob.hear(&first, &scene).unwrap();
        bob.disconnected(Duration::ZERO);
        bob.connected(true);
        bob.hear(&again, &scene);
        assert_eq!(promises(&scene), []);
        bob.answered(&[answer]);
        bob.hear(&again, &scene);
        assert_eq!(promises(&scene), [Promise::Returned]);
    }

    #[test]
    fn what_was_acknowledged_just_before_the_end_may() {
        let (scene, mut bob) = (scene(), inbox());
        let answer = bob.hear(&publish((0, 0), QoS::AtLeastOnce, 1, false), &scene).unwrap();
        bob.answered(&[answer]);
        scene.dealt_with(Instant::now());
        scene.breaks_now();
        bob.disconnected(Duration::ZERO);
        bob.connected(true);
        bob.hear(&publish((0, 0), QoS::AtLeastOnce, 1, false), &scene);
        assert_eq!(promises(&scene), [Promise::NoDup]);
        assert_eq!(scene.ages().iter().sum::<u64>(), 1);
    }

    #[test]
    fn qos_2_comes_once() {
        let (scene, mut bob) = (scene(), inbox());
        let first = publish((0, 0), QoS::ExactlyOnce, 1, false);
        bob.hear(&first, &scene);
        bob.hear(&publish((0, 0), QoS::ExactlyOnce, 1, true), &scene);
        assert_eq!(promises(&scene), []);
        bob.hear(&first, &scene);
        bob.release(PacketId::MIN);
        bob.hear(&first, &scene);
        bob.hear(&publish((0, 1), QoS::ExactlyOnce, 1, false), &scene);
        assert_eq!(promises(&scene), [Promise::NoDup, Promise::Twice, Promise::PacketId]);
    }

    #[test]
    fn what_its_publisher_sent_twice_may_come_twice() {
        let (scene, mut bob) = (scene(), inbox());
        let first = publish((0, 0), QoS::AtLeastOnce, 1, false);
        scene.stream(0).unwrap().again.insert(0);
        bob.hear(&first, &scene);
        bob.hear(&first, &scene);
        assert_eq!(promises(&scene), []);
    }
}
