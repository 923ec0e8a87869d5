//! The files that come with the product.

/// What `foretide init` writes: small, commented, runs as it is.
pub const INIT: &str = include_str!("../init.toml");
/// What `foretide demo` runs, after putting its own values for the placeholders `{foretide}` and `{speed}`.
pub const DEMO: &str = include_str!("../demo.toml");
/// Every key with its default, commented.
pub const REFERENCE: &str = include_str!("../reference.toml");
/// Scenarios for `foretide simulate`: name and text.
pub const SCENARIOS: [(&str, &str); 3] = [
    ("campaign", include_str!("../scenarios/campaign.toml")),
    ("unequal", include_str!("../scenarios/unequal.toml")),
    ("crash", include_str!("../scenarios/crash.toml")),
];
