//! What needs no daemon: hashes, caps of bodies, which types threads may share.

use capstore::{
    Cap, Code, Hash, Kind, Lazy, LazySpace, Map, Parts, Proven, Reader, SliceVerifier, Space, Store, PAGE_SIZE,
};

/// The served body of a Data cap of one page that begins with "hello" (PROTOCOL.md section 8).
fn hello() -> Vec<u8> {
    let mut body = vec![2];
    body.extend(4096u64.to_le_bytes());
    for word in [16u32, 28, 0, 0, 5] {
        body.extend(word.to_le_bytes());
    }
    body.extend(b"hello");
    body
}

const HELLO: &str = "ef702648114023b1184b449027cb07fada47158889362b611db19b0b2c0c7688";

#[test]
fn caps_are_verified() {
    let hash: Hash = HELLO.parse().unwrap();
    let cap = Cap::from_body(&hello(), Some(&hash)).unwrap();
    assert_eq!((cap.kind(), cap.hash()), (Kind::Data, hash));
    assert!(cap.is_verified() && cap.image().is_none());
    let data = cap.data().unwrap();
    assert_eq!(data.size(), PAGE_SIZE as u64);
    let pages: Vec<_> = data.pages().collect();
    assert_eq!((pages[0].index, pages[0].bytes, pages.len()), (0, &b"hello"[..], 1));
    let mut page = [1u8; PAGE_SIZE];
    data.read(0, &mut page).unwrap();
    assert_eq!((&page[..5], page[5]), (&b"hello"[..], 0));
    assert_eq!(data.read(1, &mut page).unwrap_err().code, Code::InvalidArgument);

    let mut wrong = hello();
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(Cap::from_body(&wrong, Some(&hash)).unwrap_err().code, Code::HashMismatch);
    wrong.pop();
    assert_eq!(Cap::from_body(&wrong, None).unwrap_err().code, Code::BodyNotCanonical);
}

#[test]
fn hashes_are_read_and_written() {
    let hash: Hash = format!("0x{}", HELLO.to_uppercase()).parse().unwrap();
    assert_eq!(hash.to_string(), HELLO);
    for wrong in ["", "ef", &HELLO[1..], &format!("{HELLO}0"), &HELLO.replace('e', "+")] {
        assert_eq!(wrong.parse::<Hash>().unwrap_err().code, Code::InvalidArgument);
    }
}

#[test]
fn threads_may_share_what_never_changes() {
    fn sent<T: Send>() {}
    fn shared<T: Sync>() {}
    sent::<Store>();
    sent::<Cap>();
    shared::<Cap>();
    sent::<Map>();
    shared::<Map>();
    sent::<Space>();
    shared::<Space>();
    sent::<Parts<'static>>();
    shared::<Parts<'static>>();
    sent::<Reader<'static>>();
    shared::<Reader<'static>>();
    sent::<Lazy<'static>>();
    shared::<Lazy<'static>>();
    sent::<LazySpace<'static>>();
    shared::<LazySpace<'static>>();
    sent::<SliceVerifier<fn(Proven<'_>) -> bool>>();
    let cap = Cap::from_body(&hello(), None).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(cap.hash().to_string(), HELLO));
        }
    });
}

#[test]
fn no_daemon_is_an_error_by_name() {
    let error = Store::connect("unix:/nonexistent/capstore.sock").err().unwrap();
    assert_eq!(error.code, Code::Connect);
    assert!(error.to_string().starts_with("connect: "), "{error}");
    assert_eq!(Store::connect("nothing").err().unwrap().code, Code::InvalidArgument);
}

#[test]
fn data_is_named_without_a_daemon() {
    assert_eq!(capstore::data_hash(b"hello", 0).unwrap().to_string(), HELLO);
}
