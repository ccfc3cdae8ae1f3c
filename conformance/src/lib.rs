//! Conformance: normative statements of MQTT 3.1.1 and 5.0, asked of any broker over a socket.
//!
//! It shares no code with a broker, least of all a codec: what both got wrong would look right.
//! [`all`] lists the cases, [`run`] asks them, and [`report`] says what was found.

pub mod case;
mod client;
pub mod compare;
pub mod html;
mod log;
pub mod number;
pub mod outcome;
pub mod packet;
pub mod read;
pub mod record;
pub mod report;
pub mod run;
pub mod scram;
pub mod statement;
pub mod target;
pub mod transport;
pub mod wire;

mod section1_5;
mod section2_1;
mod section2_2;
mod section3_1;
mod section3_10;
mod section3_12;
mod section3_1_2;
mod section3_1_2_3;
mod section3_1_2_5;
mod section3_2;
mod section3_2_2;
mod section3_3;
mod section3_3_2;
mod section3_3_4;
mod section3_4;
mod section3_8;
mod section4_1;
mod section4_12;
mod section4_3;
mod section4_4;
mod section4_7;
mod section4_8;
mod section6_0;
mod section7_0;

use case::Case;

/// Every case, in the order of the specification.
pub fn all() -> Vec<&'static Case> {
    let files = [
        section1_5::CASES,
        section2_1::CASES,
        section2_2::CASES,
        section3_1::CASES,
        section3_1_2::CASES,
        section3_1_2_3::CASES,
        section3_1_2_5::CASES,
        section3_2::CASES,
        section3_2_2::CASES,
        section3_3::CASES,
        section3_3_2::CASES,
        section3_3_4::CASES,
        section3_4::CASES,
        section3_8::CASES,
        section3_10::CASES,
        section3_12::CASES,
        section4_1::CASES,
        section4_3::CASES,
        section4_4::CASES,
        section4_7::CASES,
        section4_8::CASES,
        section4_12::CASES,
        section6_0::CASES,
        section7_0::CASES,
    ];
    files.into_iter().flatten().collect()
}
