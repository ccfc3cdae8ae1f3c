//! `cargo sim`: many seeds, or one with all that happens in it.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use tidings_sim::{Broken, Fault, Tally, run};

const USAGE: &str = "usage: cargo sim --seeds N [--from S] | --seed S  [--plant FAULT]";

struct Options {
    from: u64,
    seeds: u64,
    verbose: bool,
    fault: Fault,
}

fn options() -> Option<Options> {
    let mut options = Options { from: 0, seeds: 1_000, verbose: false, fault: Fault::None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next()?;
        match &word[..] {
            "--seeds" => options.seeds = value.parse().ok()?,
            "--from" => options.from = value.parse().ok()?,
            "--seed" => {
                options.from = value.parse().ok()?;
                options.seeds = 1;
                options.verbose = true;
            }
            "--plant" => options.fault = Fault::parse(&value)?,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let started = Instant::now();
    let shows = std::io::stderr().is_terminal();
    let mut tally = Tally::default();
    for done in 0..options.seeds {
        match run(options.from + done, options.fault, options.verbose) {
            Ok(one) => tally.add(&one),
            Err(broken) => return report(&broken, options.fault),
        }
        if shows && done % 200 == 199 {
            let rate = (done + 1) as f64 / started.elapsed().as_secs_f64();
            eprint!("\r{} of {} seeds, {rate:.0} a second ", done + 1, options.seeds);
            let _unseen = std::io::stderr().flush();
        }
    }
    if shows {
        eprintln!();
    }
    let rate = options.seeds as f64 / started.elapsed().as_secs_f64();
    for (what, count) in [
        ("seeds", options.seeds),
        ("steps", tally.steps),
        ("crashes", tally.crashes),
        ("power cuts", tally.power_cuts),
        ("disk errors", tally.disk_errors),
        ("stops", tally.stops),
        ("checkpoints", tally.checkpoints),
        ("messages", tally.messages),
        ("deliveries", tally.deliveries),
    ] {
        println!("{what:<12} {count:>12}");
    }
    println!("{:<12} {rate:>12.0}", "seeds/s");
    println!("{:<12} {:>12x}", "digest", tally.digest);
    ExitCode::SUCCESS
}

fn report(broken: &Broken, fault: Fault) -> ExitCode {
    let plant = if fault == Fault::None { String::new() } else { format!(" --plant {fault:?}") };
    println!("\nseed {} breaks a promise at step {}:", broken.seed, broken.step);
    println!("  {}", broken.invariant);
    println!("replay with: cargo sim --seed {}{plant}", broken.seed);
    ExitCode::FAILURE
}
