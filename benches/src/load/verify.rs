//! What a payload carries, and whether what arrives is what was sent: each once, in order.

/// What stands at the start of every payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which publisher's.
    pub stream: u32,
    /// Its number there, from 0.
    pub sequence: u64,
    /// When it was due, in nanoseconds of the run's clock.
    pub due: u64,
}

/// The bytes of a [`Stamp`]: no payload is smaller.
pub const STAMP_BYTES: usize = 20;

impl Stamp {
    /// The stamp of a payload, if it has one.
    #[inline]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (stream, rest) = payload.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (due, _) = rest.split_first_chunk()?;
        Some(Self {
            stream: u32::from_be_bytes(*stream),
            sequence: u64::from_be_bytes(*sequence),
            due: u64::from_be_bytes(*due),
        })
    }

    /// As it stands in a payload.
    #[inline]
    pub fn bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        let (stream, rest) = bytes.split_at_mut(4);
        let (sequence, due) = rest.split_at_mut(8);
        stream.copy_from_slice(&self.stream.to_be_bytes());
        sequence.copy_from_slice(&self.sequence.to_be_bytes());
        due.copy_from_slice(&self.due.to_be_bytes());
        bytes
    }
}

/// What was wrong with the messages of one or many receivers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Sent, and never came.
    pub lost: u64,
    /// Came again.
    pub duplicates: u64,
    /// Came behind one that was sent later.
    pub reordered: u64,
    /// Came to a receiver that is not theirs, or carries no stamp.
    pub foreign: u64,
}

impl Verdict {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
    }
}

/// How many gaps of a stream are remembered: what comes later of an older one counts as a duplicate.
const GAPS_MAX: usize = 1024;

/// Looks at the sequence numbers that one receiver gets of one publisher.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    /// Every number below it came or is in a gap.
    next: u64,
    /// Numbers that were passed over: from, and the first that is not of it.
    gaps: Vec<(u64, u64)>,
    /// Passed over, in gaps that are not remembered any more.
    forgotten: u64,
    verdict: Verdict,
}

impl Verifier {
    /// One more came. How many numbers the stream went on by: those that were passed over as well.
    #[inline]
    pub fn take(&mut self, sequence: u64) -> u64 {
        if sequence == self.next {
            self.next += 1;
            return 1;
        }
        self.out_of_line(sequence)
    }

    #[cold]
    fn out_of_line(&mut self, sequence: u64) -> u64 {
        if let Some(passed) = sequence.checked_sub(self.next) {
            if self.gaps.len() == GAPS_MAX {
                let (from, to) = self.gaps.remove(0);
                self.forgotten += to - from;
            }
            self.gaps.push((self.next, sequence));
            self.next = sequence + 1;
            return passed + 1;
        }
        let gap = self.gaps.iter().position(|(from, to)| (*from..*to).contains(&sequence));
        let Some(at) = gap else {
            self.verdict.duplicates += 1;
            return 0;
        };
        self.verdict.reordered += 1;
        let (from, to) = self.gaps.remove(at);
        let pieces = [(from, sequence), (sequence + 1, to)];
        for piece in pieces.into_iter().rev().filter(|(from, to)| from < to) {
            self.gaps.insert(at, piece);
        }
        0
    }

    /// One came that is not of this stream.
    pub fn foreign(&mut self) {
        self.verdict.foreign += 1;
    }

    /// The first number that neither came nor was passed over.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// What was wrong, now that `sent` messages were sent and nothing more is coming.
    pub fn verdict(&self, sent: u64) -> Verdict {
        let gaps: u64 = self.gaps.iter().map(|(from, to)| to - from).sum();
        let lost = self.forgotten + gaps + sent.saturating_sub(self.next);
        Verdict { lost, ..self.verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(sequences: &[u64], sent: u64) -> Verdict {
        let mut verifier = Verifier::default();
        let on: u64 = sequences.iter().map(|it| verifier.take(*it)).sum();
        assert_eq!(on, verifier.next());
        verifier.verdict(sent)
    }

    #[test]
    fn what_is_planted_is_found() {
        let fine = Verdict::default();
        assert_eq!(verdict(&[0, 1, 2, 3], 4), fine);
        assert_eq!(verdict(&[0, 1, 2], 4), Verdict { lost: 1, ..fine }, "the last");
        assert_eq!(verdict(&[0, 2, 3], 4), Verdict { lost: 1, ..fine });
        assert_eq!(verdict(&[0, 4], 5), Verdict { lost: 3, ..fine });
        assert_eq!(verdict(&[0, 1, 1, 2, 3], 4), Verdict { duplicates: 1, ..fine });
        assert_eq!(verdict(&[0, 2, 1, 3], 4), Verdict { reordered: 1, ..fine }, "a swap");
        assert_eq!(
            verdict(&[3, 1, 0, 1], 4),
            Verdict { lost: 1, reordered: 2, duplicates: 1, ..fine }
        );
    }

    #[test]
    fn more_gaps_than_are_remembered_are_lost_all_the_same() {
        let even: Vec<_> = (0..4 * GAPS_MAX as u64).step_by(2).collect();
        let sent = 4 * GAPS_MAX as u64 - 1;
        let expected = Verdict { lost: sent - even.len() as u64, ..Verdict::default() };
        assert_eq!(verdict(&even, sent), expected);
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp { stream: 7, sequence: u64::MAX - 1, due: 123_456_789_012 };
        let mut payload = stamp.bytes().to_vec();
        payload.extend_from_slice(b"more");
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..STAMP_BYTES - 1]), None);
    }
}
