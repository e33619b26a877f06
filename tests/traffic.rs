//! Makes a capture of many calls, the same in every run, and prints what is in it.
//!
//!     cargo run --release -p support --bin traffic -- --calls 1000 --bytes 1073741824 big.pcap
//!
//! `--help` lists the options; `support/traffic.rs` describes the traffic.

use std::{fs::File, io::BufWriter, path::PathBuf};

use clap::Parser;
use support::traffic::{self, Plan};

/// Make a capture of many calls, the same in every run, and print what is in it.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    plan: Plan,
    /// The file to write.
    file: PathBuf,
}

fn main() -> std::io::Result<()> {
    let Arguments { plan, file } = Arguments::parse();
    let truth = traffic::write(
        &plan,
        BufWriter::with_capacity(1 << 20, File::create(&file)?),
    )?;
    println!("{}: {truth}", file.display());
    Ok(())
}
