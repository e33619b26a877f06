//! Calls between real endpoints in namespaces that the tests make, with tcpdump in between: the
//! extractor must see what tshark sees, frame by frame.
//!
//! These tests want root: they make namespaces, and interfaces in them. Where a kernel cannot do
//! something, the test says so and has other software do it.

mod baresip;
mod comparison;
mod transports;
mod tunnels;
mod websocket;
