//! The standard variables of OpenTelemetry: whether they ask for spans, and whether what they ask
//! for can be had.
//!
//! The SDK reads the variables itself; what it would ignore without a word is refused here. Not
//! here: how spans are sent (`export`).

use super::LogError;
use crate::config::Strings;

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// The environment, as far as traces go. An empty variable is one that is not there, as the
/// specification has it.
pub(super) struct Variables<'a>(pub(super) &'a Strings);

impl Variables<'_> {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether spans are to be sent. `can_send` is false if this walferry was built without the
    /// feature `otlp`; asking for spans is then an error rather than a silence.
    pub(super) fn want_spans(&self, can_send: bool) -> Result<bool, LogError> {
        let Some(name) = self.asked_by()? else { return Ok(false) };
        if !can_send {
            return Err(LogError::WithoutOtlp { name });
        }
        self.check()?;
        Ok(true)
    }

    /// The variable that asks for spans, if one does.
    fn asked_by(&self) -> Result<Option<&'static str>, LogError> {
        if self.get(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match self.get(EXPORTER) {
            Some("otlp") => Ok(Some(EXPORTER)),
            Some("none") => Ok(None),
            Some(other) => Err(refused(EXPORTER, other, "otlp or none")),
            None => Ok(ENDPOINTS.into_iter().find(|name| self.get(name).is_some())),
        }
    }

    fn check(&self) -> Result<(), LogError> {
        for name in PROTOCOLS {
            if let Some(other) = self.get(name).filter(|value| *value != "http/protobuf") {
                return Err(refused(name, other, "http/protobuf (port 4318 of most collectors)"));
            }
        }
        let sampler = self.get(SAMPLER);
        if let Some(other) = sampler.filter(|value| !SAMPLERS.contains(value)) {
            let allowed = "always_on, always_off, traceidratio or one of them after parentbased_";
            return Err(refused(SAMPLER, other, allowed));
        }
        let share = self.get(SAMPLER_ARGUMENT).unwrap_or_default();
        let is_share = share.parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share));
        if sampler.is_some_and(|value| value.ends_with("traceidratio")) && !is_share {
            return Err(refused(SAMPLER_ARGUMENT, share, "a number from 0 to 1"));
        }
        Ok(())
    }
}

fn refused(name: &'static str, value: &str, allowed: &'static str) -> LogError {
    LogError::Variable { name, value: value.to_owned(), allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    fn want_spans(variables: &[(&str, &str)], can_send: bool) -> Result<bool, String> {
        let strings =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let strings: Strings = strings.collect();
        Variables(&strings).want_spans(can_send).map_err(|error| error.to_string())
    }

    fn on(variables: &[(&str, &str)]) -> Result<bool, String> {
        want_spans(variables, true)
    }

    #[test]
    fn the_standard_variables_turn_traces_on_and_off() {
        assert_eq!(on(&[]), Ok(false));
        assert_eq!(on(&[ENDPOINT]), Ok(true));
        assert_eq!(on(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(false));
        assert_eq!(on(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(false));
        assert_eq!(on(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), Ok(false));
        assert_eq!(on(&[("OTEL_TRACES_EXPORTER", "otlp")]), Ok(true));
    }

    #[test]
    fn what_is_not_supported_is_named_with_what_is() {
        let check = |name: &str, value: &str, remedy: &str| {
            let error = on(&[ENDPOINT, (name, value)]).unwrap_err();
            let named = error.contains(name) && error.contains(remedy);
            assert!(named && error.contains(&format!("{value:?}")), "{error}");
        };
        check("OTEL_TRACES_EXPORTER", "jaeger", "otlp or none");
        check("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf");
        check("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf");
        check("OTEL_TRACES_SAMPLER", "xray", "always_on");
        let ratio = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        for share in ["", "2", "half"] {
            let argument = ("OTEL_TRACES_SAMPLER_ARG", share);
            let error = on(&[ENDPOINT, ratio, argument]).unwrap_err();
            assert!(error.contains("OTEL_TRACES_SAMPLER_ARG") && error.contains("0 to 1"));
        }
        assert_eq!(on(&[ENDPOINT, ratio, ("OTEL_TRACES_SAMPLER_ARG", "0.25")]), Ok(true));
    }

    #[test]
    fn a_build_without_the_feature_names_the_variable_that_asks_for_spans() {
        for (name, value) in [
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://operator:secret@127.0.0.1:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://operator:secret@127.0.0.1:4318"),
        ] {
            let error = want_spans(&[(name, value)], false).unwrap_err();
            assert!(error.starts_with(name), "{error}");
            assert!(error.contains("--features otlp") && !error.contains("secret"), "{error}");
        }
        assert_eq!(want_spans(&[], false), Ok(false));
        assert_eq!(want_spans(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")], false), Ok(false));
    }
}
