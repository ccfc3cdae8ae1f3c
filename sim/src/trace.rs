//! What happened, as a digest: two runs of a seed must have one; and as text, for who replays it.

use tidings_core::time::Time;

/// A digest of a history.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    verbose: bool,
    pub(crate) now: Time,
    pub(crate) step: usize,
}

impl Trace {
    pub(crate) fn new(verbose: bool, now: Time) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, verbose, now, step: 0 }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Notes that something happened.
    pub(crate) fn note(&mut self, what: &str, number: usize, bytes: &[u8]) {
        self.mix(what.len() as u64 ^ (number as u64) << 8 ^ self.now.as_millis() << 20);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.mix(u64::from_le_bytes(word));
        }
        if self.verbose {
            let text = String::from_utf8_lossy(bytes).escape_debug().to_string();
            eprintln!("step {} {} {what} {number} {text}", self.step, self.now);
        }
    }

    fn mix(&mut self, word: u64) {
        self.digest = (self.digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}
