//! When disk and memory count as nearly used up: the decisions, without a look at either.
//!
//! Each has marks to go in by and others to come out by, so that it is not in and out with every
//! message. Whoever looks tells what was found and hears what holds from now on.

/// What is to be left free of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskReserve {
    /// At least this many bytes.
    pub bytes: u64,
    /// But those are at most this part of the disk, in hundredths; 100: they hold on any disk.
    pub bytes_percent_max: u8,
    /// And at least this part of the disk, in hundredths.
    pub percent: u8,
}

impl Default for DiskReserve {
    fn default() -> Self {
        Self { bytes: 1 << 30, bytes_percent_max: 10, percent: 5 }
    }
}

impl DiskReserve {
    /// Its bytes on a disk of this size.
    pub fn of(&self, total_bytes: u64) -> u64 {
        let part = |percent: u8| hundredths(total_bytes, u64::from(percent));
        let bytes = match self.bytes_percent_max {
            100.. => self.bytes,
            percent => self.bytes.min(part(percent)),
        };
        bytes.max(part(self.percent))
    }
}

/// Whether a disk is nearly full.
#[derive(Debug, Clone, Default)]
pub struct DiskMark {
    low: bool,
}

impl DiskMark {
    /// What holds now that so much is free: nearly full below the reserve, and from there on until
    /// twice as much is free.
    ///
    /// `spare_bytes` are in the store's own files and count like free ones, or a disk that the store
    /// has filled would never be free again. The store may be wrong about them: below three eighths
    /// of the reserve, and until half of it is free, they do not help.
    pub fn look(
        &mut self,
        free_bytes: u64,
        spare_bytes: u64,
        total_bytes: u64,
        reserve: &DiskReserve,
    ) -> bool {
        let reserve = reserve.of(total_bytes);
        let (mark, floor) = match self.low {
            true => (reserve.saturating_mul(2), reserve / 2),
            false => (reserve, reserve / 8 * 3),
        };
        self.low = free_bytes < floor || free_bytes.saturating_add(spare_bytes) < mark;
        self.low
    }

    /// How much may be written before the next look: an eighth of the reserve, so that nobody runs
    /// through it between two of them.
    pub fn until_next_look(total_bytes: u64, reserve: &DiskReserve) -> u64 {
        (reserve.of(total_bytes) / 8).max(1)
    }
}

/// How far memory is used up, and what that asks for; each asks for what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum MemoryMark {
    /// There is enough.
    #[default]
    Enough,
    /// 60 %: nobody new is let in.
    RefuseConnections,
    /// 75 %: who publishes is not read.
    HoldPublishers,
    /// 85 %: the connections that hold most are closed.
    CloseLargest,
}

impl MemoryMark {
    /// The mark that was written as this number, see [`MemoryMark::number`].
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Enough,
            1 => Self::RefuseConnections,
            2 => Self::HoldPublishers,
            _ => Self::CloseLargest,
        }
    }

    /// The marks in order, from 0.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The part of the bound where it begins, in hundredths.
    const fn percent(self) -> u64 {
        match self {
            Self::Enough => 0,
            Self::RefuseConnections => 60,
            Self::HoldPublishers => 75,
            Self::CloseLargest => 85,
        }
    }

    fn begins(self, bound: u64) -> u64 {
        hundredths(bound, self.percent())
    }

    fn ends(self, bound: u64) -> u64 {
        hundredths(bound, self.percent().saturating_sub(HYSTERESIS_PERCENT))
    }

    /// The mark of so many bytes, without regard to what was before.
    pub fn of(used: u64, bound: u64) -> Self {
        let marks = [Self::CloseLargest, Self::HoldPublishers, Self::RefuseConnections];
        marks.into_iter().find(|mark| used >= mark.begins(bound)).unwrap_or_default()
    }

    /// How many bytes are too many, once that mark is reached: to be given back by whoever holds
    /// most.
    pub fn excess(self, used: u64, bound: u64) -> u64 {
        used.saturating_sub(self.ends(bound))
    }
}

/// A mark is left this much of the bound below where it began, in hundredths.
const HYSTERESIS_PERCENT: u64 = 5;

fn hundredths(of: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(of) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// What a look at memory found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryLook {
    /// What the process has of the machine's memory.
    pub resident: u64,
    /// What its allocator has given out, if it can say.
    pub allocated: Option<u64>,
    /// What it knows that it holds: bytes that wait to be written, to be read or to be stored.
    pub held: u64,
}

/// How far memory is used up.
///
/// What a process has is not what it needs: its allocator keeps memory that was freed. Memory that
/// was held and is not any more, and that the machine did not get back, is free for whatever comes
/// next. Without that a burst would leave its mark for ever. That is an estimate; an allocator that
/// says what it has given out knows better.
#[derive(Debug, Clone, Default)]
pub struct MemoryMarks {
    last: MemoryLook,
    /// Freed, and not given back to the machine.
    kept: u64,
    mark: MemoryMark,
    /// For how many looks nobody was read who publishes.
    holding: u32,
}

/// What follows from a look at memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryState {
    /// The mark that holds.
    pub mark: MemoryMark,
    /// The bytes in use.
    pub used: u64,
    /// How many of them those who hold most are to give back now.
    pub excess: u64,
}

/// Whether memory that the allocator keeps of what was freed is to go back to the machine: a tenth of
/// the bound. It is in pieces of the sizes that were freed, and the next burst is of others.
pub fn is_worth_giving_back(kept: u64, bound: u64) -> bool {
    kept > bound / 10
}

/// For how many looks publishers wait for memory to get less by itself. Nothing comes in meanwhile:
/// who holds much behind these does not read, and the innocent are not to wait for that.
const LOOKS_HOLDING_MAX: u32 = 10;

impl MemoryMarks {
    /// The mark that holds.
    pub fn mark(&self) -> MemoryMark {
        self.mark
    }

    /// Somebody found between two looks that this mark is reached.
    pub fn raise(&mut self, mark: MemoryMark) {
        self.mark = self.mark.max(mark);
    }

    /// What holds now that this was found.
    pub fn look(&mut self, found: MemoryLook, bound: u64) -> MemoryState {
        let last = std::mem::replace(&mut self.last, found);
        let freed = last.held.saturating_sub(found.held);
        let taken = found.held.saturating_sub(last.held);
        let grown = found.resident.saturating_sub(last.resident);
        let returned = last.resident.saturating_sub(found.resident);
        let reused = taken.saturating_sub(grown);
        let kept = self.kept.saturating_add(freed).saturating_sub(returned + reused);
        // What is held is in use, whatever was lost in counting.
        self.kept = kept.min(found.resident.saturating_sub(found.held));
        // Half of what is free stays with the process, in pieces too small for what comes.
        let kept = found.allocated.map_or(self.kept, |it| found.resident.saturating_sub(it));
        let used = found.resident - kept / 2;
        let risen = MemoryMark::of(used, bound);
        if risen > self.mark {
            self.mark = risen;
        }
        while self.mark > risen && used < self.mark.ends(bound) {
            self.mark = MemoryMark::from_number(self.mark.number() - 1);
        }
        let holding = self.mark >= MemoryMark::HoldPublishers;
        self.holding = if holding { self.holding.saturating_add(1) } else { 0 };
        let excess = if self.holding > LOOKS_HOLDING_MAX {
            MemoryMark::HoldPublishers.excess(used, bound)
        } else if self.mark == MemoryMark::CloseLargest {
            self.mark.excess(used, bound)
        } else {
            0
        };
        MemoryState { mark: self.mark, used, excess }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_is_low_below_the_reserve_and_until_twice_as_much_is_free() {
        let reserve = DiskReserve { bytes: 100, bytes_percent_max: 100, percent: 5 };
        let mut mark = DiskMark::default();
        let looks =
            [(100, false), (99, true), (100, true), (199, true), (200, false), (100, false)];
        for (free, low) in looks {
            assert_eq!(mark.look(free, 0, 1_000, &reserve), low, "{free}");
        }
        // Room in the store's own files helps, but not all the way down.
        let looks = [(99, 100, false), (99, 0, true), (60, 139, true), (50, 150, false)];
        for (free, spare, low) in looks.into_iter().chain([(35, 999, true), (49, 999, true)]) {
            assert_eq!(mark.look(free, spare, 1_000, &reserve), low, "{free} and {spare}");
        }
        // The larger of the two, on a disk of any size.
        assert_eq!(reserve.of(1_000_000), 50_000);
        let of_all = DiskReserve { bytes: 0, bytes_percent_max: 100, percent: 100 };
        assert_eq!(of_all.of(u64::MAX), u64::MAX);
        assert_eq!(DiskMark::until_next_look(1_000, &reserve), 12);
        let all = DiskReserve { bytes: u64::MAX, bytes_percent_max: 100, percent: 0 };
        assert!(DiskMark::default().look(0, 0, u64::MAX, &all));
    }

    #[test]
    fn default_reserve_is_what_a_small_disk_can_spare() {
        let reserve = DiskReserve::default();
        let of = [64 << 20, 10 << 30, 20 << 30, 100 << 30].map(|total| reserve.of(total));
        assert_eq!(of, [(64 << 20) / 10, 1 << 30, 1 << 30, 5 << 30]);
        // More than that only where it is asked for.
        assert_eq!(DiskReserve { percent: 50, ..reserve }.of(1_000), 500);
        assert_eq!(DiskReserve { bytes_percent_max: 100, ..reserve }.of(1_000), 1 << 30);
    }

    fn marks(looks: &[(u64, u64)]) -> Vec<(u8, u64)> {
        let mut marks = MemoryMarks::default();
        let look =
            |&(resident, held)| marks.look(MemoryLook { resident, held, allocated: None }, 1_000);
        looks.iter().map(look).map(|it| (it.mark.number(), it.used)).collect()
    }

    #[test]
    fn marks_begin_where_they_are_and_end_a_little_below() {
        let used: Vec<_> = [599, 600, 555, 549, 750, 705, 699, 850, 805, 799, 0, 1_000]
            .iter()
            .map(|used| (*used, 0))
            .collect();
        let found: Vec<_> = marks(&used).iter().map(|(mark, _)| *mark).collect();
        assert_eq!(found, [0, 1, 1, 0, 2, 2, 1, 3, 3, 2, 0, 3]);
    }

    #[test]
    fn who_holds_most_gives_back_at_the_last_mark_and_where_waiting_does_not_help() {
        let mut marks = MemoryMarks::default();
        let mut excess =
            |resident| marks.look(MemoryLook { resident, ..MemoryLook::default() }, 1_000).excess;
        assert_eq!((excess(900), excess(840), excess(799), excess(740)), (100, 40, 0, 0));
        // These four looks count.
        let waited: Vec<_> = (4..LOOKS_HOLDING_MAX).map(|_| excess(740)).collect();
        assert_eq!(waited, [0; LOOKS_HOLDING_MAX as usize - 4]);
        assert_eq!((excess(740), excess(710), excess(699), excess(760)), (40, 10, 0, 0));
    }

    #[test]
    fn memory_that_the_allocator_keeps_is_not_in_use() {
        // A burst is held and freed; the machine gets nothing back, then some.
        let found = marks(&[(100, 0), (900, 800), (900, 0), (900, 300), (500, 100), (500, 0)]);
        assert_eq!(found, [(0, 100), (3, 900), (0, 500), (1, 650), (0, 350), (0, 300)]);
    }

    #[test]
    fn growth_beside_what_is_held_is_in_use() {
        // Other memory grows while the burst is there, and while kept memory is taken again.
        let found = marks(&[(100, 0), (700, 400), (700, 0), (750, 50), (900, 50)]);
        assert_eq!(found.iter().map(|it| it.1).collect::<Vec<_>>(), [100, 700, 500, 550, 700]);
        // Counted where it takes no memory: never more is kept than there is.
        assert_eq!(marks(&[(100, 0), (150, 800), (150, 50)])[2].1, 100);
        // Unless the allocator knows.
        let look = MemoryLook { resident: 900, allocated: Some(620), held: 1 };
        let state = MemoryMarks::default().look(look, 1_000);
        assert_eq!((state.mark, state.used), (MemoryMark::HoldPublishers, 760));
    }
}
