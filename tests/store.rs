//! Serves a folder as the S3 bucket `calls`, for `scripts/bench-s3`, and prints the address and the
//! credentials.
//!
//!     cargo run --release -p sip-call-extractor --example store -- FOLDER
#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that goes wrong may say so by ending"
)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "test code explains itself by its use"
)]

#[path = "uploads/store.rs"]
#[allow(dead_code, reason = "tests use all of it")]
mod store;

fn main() {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: store FOLDER");
        std::process::exit(2);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        println!(
            "http://{address} {} {}",
            store::ACCESS_KEY,
            store::SECRET_KEY
        );
        store::serve(folder.into(), listener).await;
    });
}
