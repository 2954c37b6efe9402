"""The operator's server: folder, certificates, enrolment, SuperLink, proxy, supervision."""
