"""HTTP only: headers, status codes and bodies; one small router a protocol. The work is done by `service.serving`."""
