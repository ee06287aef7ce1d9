"""What is tried on people and learnt from it: experiments, bandits, estimates of what was not tried. No HTTP here."""
