//! Answers of the webhook, for as long as they may be repeated without asking.
//!
//! The key is a keyed hash of everything that was asked, under a key that the process makes up: no
//! password stays in memory, and what is there helps nobody to guess one.

use std::collections::HashMap;
use std::time::Duration;

use ring::hmac;
use tokio::time::Instant;

use super::Answer;
use crate::auth::Credentials;

/// Which question.
pub(super) type Question = [u8; 32];

/// The answers.
#[derive(Debug)]
pub(super) struct Cache {
    key: hmac::Key,
    accepted: HashMap<Question, (Answer, Instant)>,
    refused: HashMap<Question, Instant>,
}

impl Cache {
    pub(super) fn new() -> Self {
        let random = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u64);
        let seed: Vec<u8> = (0..4).flat_map(|_| random().to_be_bytes()).collect();
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &seed),
            accepted: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    /// The key of a question: all that the webhook is told but the port, which is another each time.
    pub(super) fn question(&self, credentials: &Credentials) -> Question {
        let mut hash = hmac::Context::with_key(&self.key);
        let mut part = |bytes: Option<&[u8]>| {
            hash.update(&[u8::from(bytes.is_some())]);
            let bytes = bytes.unwrap_or_default();
            hash.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(bytes);
        };
        let address = credentials.peer.map(|peer| peer.ip().to_string());
        let certificate = credentials.certificate.as_ref();
        part(Some(credentials.client_id.as_bytes()));
        part(credentials.user_name.as_deref().map(str::as_bytes));
        part(credentials.password.as_deref());
        part(address.as_deref().map(str::as_bytes));
        part(certificate.map(|it| it.der.as_slice()));
        let mut question = [0; 32];
        let tag = hash.sign();
        question.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        question
    }

    pub(super) fn answer(&self, question: &Question, now: Instant) -> Option<Answer> {
        if let Some((answer, until)) = self.accepted.get(question)
            && now < *until
        {
            return Some(answer.clone());
        }
        self.refused.get(question).filter(|until| now < **until).map(|_| Answer::Refuse)
    }

    pub(super) fn keep(
        &mut self,
        question: Question,
        answer: &Answer,
        time: Duration,
        now: Instant,
    ) {
        if time.is_zero() {
            return;
        }
        let until = now + time;
        if *answer == Answer::Refuse {
            if self.refused.len() >= ENTRIES_MAX {
                self.refused.retain(|_, until| now < *until);
            }
            // Who guesses that fast is held up elsewhere.
            if self.refused.len() < ENTRIES_MAX {
                self.refused.insert(question, until);
            }
            return;
        }
        if self.accepted.len() >= ENTRIES_MAX {
            self.accepted.retain(|_, (_, until)| now < *until);
        }
        if self.accepted.len() < ENTRIES_MAX {
            self.accepted.insert(question, (answer.clone(), until));
        }
    }
}

/// Answers of each kind that are kept; what does not fit is asked again.
const ENTRIES_MAX: usize = 10_000;
