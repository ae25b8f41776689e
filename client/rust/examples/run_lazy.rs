//! Lays out a program that is not here, and reads from it only what it needs: run_lazy ADDRESS HASH

use std::process::exit;

use capstore::{Code, Error, OpenOptions, Parts, Store, CODE_BASE};

const SPACE: usize = 1 << 32; // of a program

fn run(parts: Parts<'_>, hash: &str) -> capstore::Result<()> {
    let space = parts.space_lazy(&hash.parse()?, &OpenOptions::default(), SPACE, |failure| {
        eprintln!("page {}: {}: {}", failure.page, failure.code.name(), failure.message);
        exit(1) // otherwise who touches the page gets SIGBUS
    })?;
    let image = space.image().ok_or_else(|| Error::from(Code::WrongKind))?;
    for endpoint in image.endpoints() {
        // An entry is an address, or an offset into the code.
        let entry = endpoint.entry_pc;
        let entry = if entry < CODE_BASE { CODE_BASE + entry } else { entry };
        if entry >= SPACE as u64 {
            continue;
        }
        // A runtime would run from here; that fetches the page.
        // SAFETY: inside the range. Where no code lies the access is a fault, as a jump there were.
        let first = unsafe { space.base().add(entry as usize).read_volatile() };
        println!("endpoint {:02x?}: 0x{entry:x}: {first:02x}...", endpoint.key);
    }
    for region in image.regions()? {
        if region.slot.is_some() && region.end > region.start && region.end <= SPACE as u64 {
            // SAFETY: a region with a slot is mapped, at least one page of it.
            let first = unsafe { space.base().add(region.start as usize).read_volatile() };
            println!("region 0x{:x} to 0x{:x}: {first:02x}...", region.start, region.end);
        }
    }
    println!("{} pages fetched", space.counts().fetched_pages);
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() != 3 {
        eprintln!("usage: run_lazy ADDRESS HASH");
        exit(2);
    }
    let mut store = Store::connect(&arguments[1]).unwrap_or_else(|error| {
        eprintln!("{error}");
        exit(1)
    });
    if let Err(error) = run(store.parts(), &arguments[2]) {
        eprintln!("{error}: {}", store.message());
        exit(1);
    }
}
