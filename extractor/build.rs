//! Passes an argument to the linker that no profile can pass.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    // Relocations take 1.0 MB of the program; packed (DT_RELR), 12 KB. glibc reads packed
    // relocations since 2.36, which is older than the linkers that know the argument. Older linkers
    // warn and leave them as they are.
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
