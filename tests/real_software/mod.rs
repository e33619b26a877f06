//! Calls between real endpoints in network namespaces, with tcpdump in between: the extractor must
//! agree with tshark on every frame.
//!
//! These tests need root for namespaces and interfaces. If a kernel lacks a feature, the test says
//! so and uses other software.

mod bad_paths;
mod baresip;
mod comparison;
mod figures;
mod reports;
mod transports;
mod tunnels;
mod websocket;
