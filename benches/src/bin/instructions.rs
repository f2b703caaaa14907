//! `instructions PART ROUNDS`: runs a pure part ROUNDS times, for callgrind to count.

use std::hint::black_box;

use anyhow::{Context, Result};
use benches::pure::Work;

fn main() -> Result<()> {
    let usage = "instructions PART ROUNDS";
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context(usage)?;
    let rounds: usize = arguments.next().context(usage)?.parse()?;
    let parts = Work::PARTS;
    let (_, part) = parts
        .iter()
        .find(|(known, _)| *known == name)
        .context("no such part")?;
    let mut work = Work::default();
    for _ in 0..rounds {
        black_box(part(&mut work));
    }
    Ok(())
}
