//! A global allocator that counts: for each thread, and for all threads but some.

#![expect(unsafe_code, reason = "a global allocator is the only way to see every allocation")]
#![allow(dead_code, reason = "each test counts in its own way")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static LEFT_OUT: Cell<bool> = const { Cell::new(false) };
}

/// Of all threads that are not left out.
static OTHERS: AtomicUsize = AtomicUsize::new(0);

/// Whether it is noted where they allocate.
static NOTED: AtomicBool = AtomicBool::new(false);
static PLACES: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    COUNT.set(COUNT.get() + 1);
    if !LEFT_OUT.get() {
        OTHERS.fetch_add(1, Ordering::Relaxed);
        if NOTED.load(Ordering::Relaxed) {
            // What noting takes is not counted.
            LEFT_OUT.set(true);
            note();
            LEFT_OUT.set(false);
        }
    }
}

/// Notes the innermost functions of ours.
fn note() {
    let trace = Backtrace::force_capture().to_string();
    let names = trace.lines().filter_map(|line| line.trim_start().split_once(": "));
    let ours = names.filter(|(_, name)| name.contains("tidings_")).map(|(_, name)| name);
    let place = ours.take(3).collect::<Vec<_>>().join(" < ");
    if let Ok(mut places) = PLACES.lock() {
        *places.entry(place).or_default() += 1;
    }
}

// SAFETY: hands everything on to the system's allocator; the counts beside it are `Cell`s without
// a destructor and an atomic number, which neither allocate nor unwind. Noting allocates, with what it
// takes left out, so it does not come back to itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `System` made the block.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`, and `System` made the block.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How often this thread allocates while `work` runs.
pub(crate) fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// How often all other threads allocate while `work` runs on this one.
pub(crate) fn allocations_of_others(work: impl FnOnce()) -> usize {
    LEFT_OUT.set(true);
    let before = OTHERS.load(Ordering::Relaxed);
    work();
    OTHERS.load(Ordering::Relaxed) - before
}

/// Where all other threads allocate while `work` runs, and how often; takes long.
pub(crate) fn places_of_others(work: impl FnOnce()) -> Vec<(usize, String)> {
    LEFT_OUT.set(true);
    NOTED.store(true, Ordering::Relaxed);
    work();
    NOTED.store(false, Ordering::Relaxed);
    let places = PLACES.lock().map(|mut it| std::mem::take(&mut *it)).unwrap_or_default();
    let mut places: Vec<_> = places.into_iter().map(|(place, count)| (count, place)).collect();
    places.sort_by(|a, b| b.cmp(a));
    places
}
