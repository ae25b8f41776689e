//! The structures in `sys` are laid out as the C headers say: a C compiler is asked.

use std::fmt::Write as _;
use std::process::Command;

use ::capstore::sys::*;

macro_rules! layout {
    ($($name:ident { $($field:ident)* })*) => {{
        let (mut c, mut rust) = (String::new(), Vec::<usize>::new());
        $(
            // The options are cut after the last member that this crate knows.
            if stringify!($name) != "capstore_options" {
                writeln!(c, "P(sizeof(struct {}))", stringify!($name)).unwrap();
                rust.push(std::mem::size_of::<$name>());
            }
            let it = std::mem::MaybeUninit::<$name>::uninit();
            $(
                writeln!(c, "P(offsetof(struct {}, {}))", stringify!($name), stringify!($field)).unwrap();
                let at = unsafe { std::ptr::addr_of!((*it.as_ptr()).$field) } as usize;
                rust.push(at - it.as_ptr() as usize);
            )*
        )*
        (c, rust)
    }};
}

#[test]
fn structures_are_laid_out_as_in_c() {
    let (lines, rust) = layout! {
        capstore_hash { bytes }
        capstore_bytes { data len }
        capstore_source { read ctx len next_data }
        capstore_options { struct_size timeout_ms no_verify agent max_body max_caps progress progress_ctx max_bodies hash_thread leases keep_s no_resume }
        capstore_kept { kind kept_s }
        capstore_stat_result { kind body_len size page_count ref_count published_us content_hash }
        capstore_closure_entry { hash kind body_len cap }
        capstore_put_result { cap_hash size body_len is_new kept_s }
        capstore_publish_result { cap_hash content_hash body_len is_new data_new data_present kept_s }
        capstore_unresolved_slot { table kind cap_hash slot }
        capstore_page { index bytes }
        capstore_counts { endpoints mappings slots gas_slots quota_slots }
        capstore_endpoint { key entry_pc stack_top arg_cnode_slot arg_cnode_size initial_regs }
        capstore_mapping { start size steps }
        capstore_slot { key cap_hash }
        capstore_daemon_info { protocol_version store_id agent max_hashes max_upload max_structure max_data idle_ms }
        capstore_shortage_figures { need have limit }
        capstore_data_id { cap_hash size body_len }
        capstore_region { start end read_only has_slot table slot }
        capstore_range { first pages }
        capstore_slice_head { kind size page_count image }
        capstore_slice_sink { head pages zeros ctx }
        capstore_slice_where { offset level index }
        capstore_open_options { struct_size cache_directory max_memory readahead }
        capstore_read_counts { requests fetched_pages cached_pages dropped_pages cache_failed }
        capstore_lazy_failure { hash page address error message }
        capstore_lazy_options { struct_size failed ctx }
        capstore_span { address len read_only fd file_len }
    };
    let dir = std::env::temp_dir().join(format!("capstore-layout-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (source, program) = (dir.join("layout.c"), dir.join("layout"));
    let text = format!(
        "#include <capstore/capstore.h>\n#include <stdio.h>\n\
         #define P(x) printf(\"%zu\\n\", (size_t)(x));\nint main(void) {{\n{lines}return 0;\n}}\n"
    );
    std::fs::write(&source, text).unwrap();
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/../include");
    let built = Command::new("cc").arg("-I").arg(include).arg(&source).arg("-o").arg(&program).status();
    assert!(built.unwrap().success());
    let output = Command::new(&program).output().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let c: Vec<usize> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert!(!c.is_empty());
    assert_eq!(c, rust);
}
