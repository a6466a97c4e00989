//! What an addition would do, as a unified diff that `git apply` and `patch` read too.

use similar::TextDiff;

/// Lines around a change.
const CONTEXT_LINES: usize = 3;

/// Of a file that was there.
pub(crate) fn changed(path: &str, before: &str, after: &str) -> String {
    unified(&format!("a/{path}"), &format!("b/{path}"), before, after)
}

/// Of a file that is new.
pub(crate) fn new(path: &str, text: &str) -> String {
    unified("/dev/null", &format!("b/{path}"), "", text)
}

fn unified(before_name: &str, after_name: &str, before: &str, after: &str) -> String {
    TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .header(before_name, after_name)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_and_a_new_file_are_shown_as_tools_read_them() {
        let expected = "--- a/a.js\n+++ b/a.js\n@@ -1,2 +1,3 @@\n a\n+b\n c\n\\ No newline at end of file\n";
        assert_eq!(changed("a.js", "a\nc", "a\nb\nc"), expected);
        assert_eq!(new("b/c.js", "a\n"), "--- /dev/null\n+++ b/b/c.js\n@@ -0,0 +1 @@\n+a\n");
    }
}
