//! Passes the linker the one argument that no profile can.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    // Relocations take 1.0 MB of the program; packed (DT_RELR), 12 KB. glibc reads them since 2.36,
    // which is older than the linkers that know the argument; older linkers warn and leave them as
    // they are.
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
