//! What has to hold in the end.

use super::{Sim, USERS, name, text_of};
use crate::machine::Standing;
use serde_json::Value;
use std::collections::BTreeSet;

impl Sim {
    pub(super) fn check_orders(&self) {
        for (chat, log) in self.logs.iter().enumerate() {
            for user in 0..2 {
                let of = |entry: &&Value| entry["from"] == USERS[user];
                let texts: Vec<u64> = log.entries.iter().filter(of).map(text_of).collect();
                let in_order = texts.windows(2).all(|two| two[0] < two[1]);
                assert!(in_order, "seed {}: {user} in {chat}: {texts:?}", self.seed);
            }
        }
    }

    pub(super) fn check_all(&self) {
        self.check_orders();
        for user in 0..2 {
            for chat in 0..2 {
                let (log, name, seed) = (&self.logs[chat], name(chat, user), self.seed);
                let texts: BTreeSet<u64> = log
                    .entries
                    .iter()
                    .filter(|entry| entry["from"] == USERS[user])
                    .map(text_of)
                    .collect();
                let lost: Vec<_> = self.promised[user][chat].difference(&texts).collect();
                assert!(lost.is_empty(), "seed {seed}: {user} lost {lost:?} in {chat}");
                let here = self.stored(user, &name);
                let Some(standing) = self.clients[user].standings.get(&name) else {
                    assert!(log.entries.is_empty(), "seed {seed}: {user} never heard of {chat}");
                    continue;
                };
                // From where the device began: everything, as it is, or gone.
                let begun = here.keys().next().copied().unwrap_or(u64::MAX);
                for entry in log.entries.iter().skip(begun as usize - 1) {
                    let seq = entry["seq"].as_u64().unwrap();
                    match here.get(&seq) {
                        Some(found) => {
                            assert_eq!(found.body.text().unwrap(), entry["text"], "seed {seed}");
                            assert_eq!(found.from, entry["from"], "seed {seed}");
                        }
                        None => assert!(
                            seq <= log.gone && seq > begun,
                            "seed {seed}: {user} lacks {chat}/{seq}"
                        ),
                    }
                }
                let last = log.entries.len() as u64;
                let expected = (last, last, 0, 0);
                let Standing { in_order, read, unread, waiting, .. } = *standing;
                assert_eq!(
                    (in_order, read, unread, waiting),
                    expected,
                    "seed {seed}: {user} {chat}"
                );
                if let Some((_, delivered, read)) = standing.others.first() {
                    assert_eq!(
                        (*delivered, *read),
                        (last, last),
                        "seed {seed}: ticks {user} {chat}"
                    );
                } else {
                    assert_eq!(last, 0, "seed {seed}: {user} has no ticks of {chat}");
                }
            }
        }
    }
}
