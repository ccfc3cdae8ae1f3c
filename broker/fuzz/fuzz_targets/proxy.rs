//! Any bytes as the header of the PROXY protocol.
#![no_main]
#![allow(dead_code, reason = "the broker uses the rest")]

#[path = "../../src/listener/frame.rs"]
mod frame;
#[path = "../../src/listener/proxy.rs"]
mod proxy;
#[path = "../../tests/fuzz_bodies/transports.rs"]
mod transports;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    transports::proxy_header_is_refused_or_read(data);
});
