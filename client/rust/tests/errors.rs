//! The codes of this crate are the library's, all of them, under the same names.

use capstore::Code;

/// `NotFound` as the library spells it.
fn snake(variant: &str) -> String {
    let mut name = String::new();
    for letter in variant.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[test]
fn names_are_the_librarys() {
    for code in Code::ALL {
        assert_eq!(code.name(), snake(&format!("{code:?}")), "{code:?}");
        assert!(!code.text().is_empty());
    }
}

#[test]
fn no_code_is_missing() {
    let unknown = Code::Other(-9999).name(); // the library calls it a bug
    assert_eq!(unknown, Code::Internal.name());
    let known: Vec<i32> = Code::ALL.iter().map(|code| code.value()).collect();
    for value in -300..0 {
        let has_name = Code::Other(value).name() != unknown || value == Code::Internal.value();
        assert_eq!(has_name, known.contains(&value), "code {value}");
    }
}
