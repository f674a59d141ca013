//! The standard environment variables of OpenTelemetry for traces
//! (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables).
//!
//! The SDK reads the variables. Values that it would ignore without a message are rejected here.
//!
//! Not here: the export of spans (`export`).

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

/// The environment variables. The specification treats an empty variable as unset.
pub(super) struct Variables<'a>(pub(super) &'a Strings);

impl Variables<'_> {
    /// The trimmed value of a variable; `None` if it is unset or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// True if spans are to be exported. `can_send` is false in a build without the feature `otlp`.
    ///
    /// # Errors
    /// [`LogError`] if a value is not supported, or if a variable enables spans in a build without
    /// the feature.
    pub(super) fn want_spans(&self, can_send: bool) -> Result<bool, LogError> {
        let Some(name) = self.enabled_by()? else { return Ok(false) };
        if !can_send {
            return Err(LogError::WithoutOtlp { name });
        }
        self.check()?;
        Ok(true)
    }

    /// The variable that enables spans; `None` if they are disabled.
    fn enabled_by(&self) -> Result<Option<&'static str>, LogError> {
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

    /// Rejects values that the SDK does not support.
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
        let ratio = self.get(SAMPLER_ARGUMENT).unwrap_or_default();
        let is_ratio = ratio.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio));
        if sampler.is_some_and(|value| value.ends_with("traceidratio")) && !is_ratio {
            return Err(refused(SAMPLER_ARGUMENT, ratio, "a number from 0 to 1"));
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
    fn an_error_names_the_value_and_the_supported_ones() {
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
    fn a_build_without_the_feature_names_the_variable_that_enables_spans() {
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
