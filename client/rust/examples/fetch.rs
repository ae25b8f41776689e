//! Fetches a program by its hash, verified, and lays out its memory: fetch ADDRESS HASH

use capstore::{Store, Table, Verify};

fn run(address: &str, hash: &str) -> capstore::Result<()> {
    let mut store = Store::connect(address)?;
    let hash = hash.parse()?;
    let cap = store.get(&hash)?;
    let image = match cap.image() {
        Some(image) => image,
        None => {
            println!("data: {} bytes", cap.data().map_or(0, |data| data.size()));
            return Ok(());
        }
    };
    for endpoint in image.endpoints() {
        println!("endpoint {:02x?}: entry 0x{:x}", endpoint.key, endpoint.entry_pc);
    }
    for slot in image.slots(Table::Pinned).chain(image.slots(Table::Initial)) {
        println!("slot {:02x?}: {}", slot.key, slot.hash);
    }
    // The code and the data behind each mapping, shared with every process that maps them.
    let space = store.space(&hash, Verify::Once)?;
    for span in space.spans() {
        let access = if span.read_only { "read-only" } else { "private" };
        println!("0x{:08x} + 0x{:x}, {access}", span.address, span.len);
    }
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() != 3 {
        eprintln!("usage: fetch ADDRESS HASH");
        std::process::exit(2);
    }
    if let Err(error) = run(&arguments[1], &arguments[2]) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
