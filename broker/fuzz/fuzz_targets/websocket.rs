//! Any bytes as WebSocket frames, in any pieces.
#![no_main]
#![allow(dead_code, reason = "the broker uses the rest")]

#[path = "../../src/listener/frame.rs"]
mod frame;
#[path = "../../src/listener/proxy.rs"]
mod proxy;
#[path = "../../tests/fuzz_bodies/transports.rs"]
mod transports;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    transports::frames_give_what_was_put_in(data);
    transports::frames_in_pieces_are_the_same(data);
});
