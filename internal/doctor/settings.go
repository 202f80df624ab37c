package doctor

import (
	"context"
	"strings"
)

const configuration = "see docs/configuration.md"

// checkSettings looks at what serve would refuse, and at what it would warn of.
func (d *Doctor) checkSettings(context.Context) verdict {
	if err := d.cfg.Settings.Validate(); err != nil {
		return fail("serve does not start with this; "+configuration, "%v", err)
	}
	if warnings := d.cfg.Settings.Warnings(); len(warnings) > 0 {
		return warn(configuration, "%s", strings.Join(warnings, "; "))
	}
	return ok("serve accepts them")
}
