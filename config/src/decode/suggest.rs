//! "Did you mean": the known name nearest to one that is not known.
//!
//! Must not: suggest a name that looks like another word altogether.

/// Names that are listed where none is near; of more, a list helps nobody.
const LISTED_MAX: usize = 20;

/// "did you mean", or what there is.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(name, known) {
        return format!("did you mean `{near}`?");
    }
    match known.len() {
        0 => "there is none".to_owned(),
        count if count > LISTED_MAX => {
            let first = known.iter().take(LISTED_MAX).copied();
            let listed: Vec<&str> = first.collect();
            format!(
                "there is: {} and {} more",
                listed.join(", "),
                count - LISTED_MAX
            )
        }
        _ => format!("there is: {}", known.join(", ")),
    }
}

/// The name that differs least, if that is little enough to be a slip.
pub(super) fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    let distance = |candidate: &&'n str| {
        let other = candidate.to_ascii_lowercase().replace('-', "_");
        let length = name.len().max(candidate.len());
        // What differs in length by more than the limit need not be compared.
        let limit = 1 + length / 4;
        (lower.len().abs_diff(other.len()) <= limit)
            .then(|| strsim::damerau_levenshtein(&lower, &other))
            .filter(|distance| *distance <= limit && *distance < length)
            .map(|distance| (distance, *candidate))
    };
    known
        .iter()
        .filter_map(distance)
        .min()
        .map(|(_, candidate)| candidate)
}
