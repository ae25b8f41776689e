//! Finds libcapstore: in the directory that CAPSTORE_LIB_DIR names, or where pkg-config says.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=CAPSTORE_LIB_DIR");
    println!("cargo:rustc-link-lib=dylib=capstore");
    if let Ok(dir) = env::var("CAPSTORE_LIB_DIR") {
        println!("cargo:rustc-link-search=native={dir}");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{dir}");
        return;
    }
    // Without pkg-config the linker's own directories have to do.
    if let Ok(output) = Command::new("pkg-config").args(["--libs-only-L", "capstore"]).output() {
        for flag in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            if let Some(dir) = flag.strip_prefix("-L") {
                println!("cargo:rustc-link-search=native={dir}");
            }
        }
    }
}
