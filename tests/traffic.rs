//! Makes a capture of many calls, the same every time, and says what is in it.
//!
//!     cargo run --release -p support --bin traffic -- --calls 1000 --bytes 1073741824 big.pcap
//!
//! `--help` tells what the traffic may be like, `support/traffic.rs` how it is made.

use std::{fs::File, io::BufWriter, path::PathBuf};

use clap::Parser;
use support::traffic::{self, Plan};

/// Makes a capture of many calls, the same every time, and says what is in it.
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
