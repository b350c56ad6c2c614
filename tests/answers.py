"""Answers as people and models write them, with what they state: the tables of the parser's tests, and of the laws."""

from __future__ import annotations

IS_A_NUMBER = [
    # digits, signs, decimals
    ("18", 18),
    (" 18\n", 18),
    ("\u00a018\u2009", 18),
    ("0", 0),
    ("-0", 0),
    ("007", 7),
    ("-3", -3),
    ("+3", 3),
    ("\u22123", -3),
    ("18.0", 18),
    ("18.", 18),
    ("18.50", "37/2"),
    (".5", "1/2"),
    ("-.5", "-1/2"),
    ("0.1", "1/10"),
    ("123456789012345678901234567890", 123456789012345678901234567890),
    # thousands
    ("1,000", 1000),
    ("1,000.00", 1000),
    ("12,345,678.9", "123456789/10"),
    ("-1,234.5", "-2469/2"),
    ("1{,}000", 1000),
    ("1,\\!000", 1000),
    # exponents
    ("1e3", 1000),
    ("1E3", 1000),
    ("1.5e-3", "3/2000"),
    ("2e+5", 200000),
    ("2e\u22122", "1/50"),
    ("1e0000000000000000000003", 1000),
    ("-1e2 eggs", -100),
    # fractions
    ("1/2", "1/2"),
    ("-1/2", "-1/2"),
    ("1 / 2", "1/2"),
    ("6/3", 2),
    ("1,000/3", "1000/3"),
    ("1.5/2", "3/4"),
    ("3/4 cup", "3/4"),
    ("\\frac{1}{2}", "1/2"),
    ("-\\frac{1}{2}", "-1/2"),
    ("\\frac{-1}{2}", "-1/2"),
    ("\\dfrac{ 3 }{ 4 }", "3/4"),
    ("\\tfrac12", "1/2"),
    ("$\\frac{1}{2}$", "1/2"),
    ("\\boxed{\\frac{1}{2}}", "1/2"),
    # money and percent
    ("$18", 18),
    ("$ 18", 18),
    ("$1,000.00", 1000),
    ("-$5", -5),
    ("$-5", -5),
    ("$.50", "1/2"),
    ("\\$18", 18),
    ("US$5", 5),
    ("\u20ac5", 5),
    ("5\u20ac", 5),
    ("5 \u20ac", 5),
    ("\u00a35.20", "26/5"),
    ("\u20b9500", 500),
    ("18 dollars", 18),
    ("50%", 50),
    ("50 %", 50),
    ("18\\%", 18),
    ("12.5 percent", "25/2"),
    ("50 cents", 50),
    # markup
    ("**18**", 18),
    ("**$18**", 18),
    ("*18*", 18),
    ("__18__", 18),
    ("`18`", 18),
    ("**Answer:** 18", 18),
    ("**18 eggs.**", 18),
    ("#### 18", 18),
    ('"18"', 18),
    ("(18)", 18),
    ("\\boxed{18}", 18),
    ("\\boxed{-18}", -18),
    ("$\\boxed{18}$", 18),
    ("$$18$$", 18),
    ("$18$", 18),
    ("\\(18\\)", 18),
    ("\\[ 18 \\]", 18),
    ("\\boxed{18\\text{ eggs}}", 18),
    ("\\boxed{\\text{18 eggs}}", 18),
    ("\\boxed{\\$1{,}000}", 1000),
    ("\\text{18}", 18),
    ("\\mathbf{18}", 18),
    ("18\\,\\text{km/h}", 18),
    # units
    ("18 eggs", 18),
    ("18 red apples", 18),
    ("18eggs", 18),
    ("5km", 5),
    ("5 km/h", 5),
    ("5 km per hour", 5),
    ("$5/hour", 5),
    ("$5 / hour", 5),
    ("5 m^2", 5),
    ("5 m^{2}", 5),
    ("5 m\u00b2", 5),
    ("5 kg/m^3.", 5),
    ("$5\\ \\mathrm{m}^2$", 5),
    ("5 m", 5),
    ("100 \u00b0C", 100),
    ("18\u00b0", 18),
    ("18-inch", 18),
    ("18 square feet", 18),
    ("18 times", 18),
    ("18 jalape\u00f1os", 18),
    ("18 more than Bob", 18),
    ("18 left over", 18),
    # sentences
    ("The answer is 18.", 18),
    ("The answer is $18.", 18),
    ("the final answer is: 18", 18),
    ("Answer:18", 18),
    ("She has 18 eggs!", 18),
    ("18, as shown", 18),
    ("Janet makes $18 every day at the farmers\u2019 market.", 18),
    ("The total is:\n\n**$18**\n", 18),
    ("Her take-home pay is $1,800.", 1800),
    ("It takes exactly 18 days.", 18),
    # mixed numbers
    ("1又3/4", "7/4"),
    ("1又4分之3", "7/4"),
    ("4分之3", "3/4"),
    ("4分の3", "3/4"),
    ("4분의 3", "3/4"),
    ("3 1/2", "7/2"),
    ("-3 1/2", "-7/2"),
    ("3 and 1/2 cups", "7/2"),
    ("3\\frac12", "7/2"),
    ("3\\frac{1}{2}", "7/2"),
    ("3 \\dfrac{1}{2}", "7/2"),
    ("3\u00bd", "7/2"),
    ("3 \u00bd cups", "7/2"),
    ("\u00bd", "1/2"),
    ("-\u00be", "-3/4"),
    ("-3./2", "-3/2"),
    # powers of ten
    ("10^3", 1000),
    ("10^{3}", 1000),
    ("10**3", 1000),
    ("10\u00b3", 1000),
    ("10^{-3}", "1/1000"),
    ("10\u207b\u00b3", "1/1000"),
    ("1.5\u00d710^3", 1500),
    ("1.5 x 10^3", 1500),
    ("1.5 * 10^3 km", 1500),
    ("1.5 \\times 10^{3}", 1500),
    ("-1.5 \\cdot 10^{-3}", "-3/2000"),
    # a minus that is apart, or another sign, or a word, or the brackets of accountants
    ("- \\frac{3}{4}", "-3/4"),
    ("- 5", -5),
    ("\u20135", -5),
    ("\u2212 5", -5),
    ("x = - 5", -5),
    ("Answer: - 5", -5),
    ("minus 5", -5),
    ("negative 5", -5),
    ("The answer is minus 5.", -5),
    ("minus five", -5),
    ("($5)", -5),
    ("($1,234.50)", "-2469/2"),
    ("$(5)", -5),
    ("18 dollars ($18)", 18),
    # number words and scale words
    ("zero", 0),
    ("one", 1),
    ("One egg", 1),
    ("The answer is one.", 1),
    ("eleven", 11),
    ("Eighteen eggs", 18),
    ("twenty", 20),
    ("ninety", 90),
    ("twenty-five", 25),
    ("thirty two", 32),
    ("18 (eighteen)", 18),
    ("eighteen (18)", 18),
    ("18 in one day", 18),
    ("$3.5 million", 3500000),
    ("3.5 million dollars", 3500000),
    ("2 dozen", 24),
    ("two dozen eggs", 24),
    ("5 lakh", 500000),
    ("5 crore", 50000000),
    ("5 hundred", 500),
    ("5 thousand", 5000),
    ("x = 5 thousand", 5000),
    ("1/2 million", 500000),
    # the time of day, where it is a whole hour
    ("10 pm", 10),
    ("6pm", 6),
    ("10 a.m.", 10),
    ("10 p.m.", 10),
    ("7 o'clock", 7),
    ("7 o\u2019clock", 7),
    ("5:00 PM", 5),
    ("\\boxed{10 \\text{ pm}}", 10),
    # the same number again
    ("2 2", 2),
    ("18\n18", 18),
    ("300\nThe final answer is $300.", 300),
    ("$300. So it is 300.00", 300),
    ("18 eggs (18)", 18),
    ("9 + 9 = 18 \\boxed{18}", 18),
    ("9 + 9, so \\boxed{18}", 18),
    ("16 - 7 = 9\n9 * 2 = 18\n\\boxed{18}", 18),
    ("\\boxed{18}\n\\boxed{18}", 18),
    # what changes nothing
    ("18 mm", 18),
    ("- Eggs: 18", 18),
    ("1. The answer is 18.", 18),
    ("> The answer is 18.", 18),
    ("final_answer: 18", 18),
    ("---\n18", 18),
    ("=> 18", 18),
    ("18 T-shirts", 18),
    ("18 X-rays", 18),
    ("18 \U0001f36a", 18),
    ("Quarters: 18", 18),
    ("Number of times: 18", 18),
    ("$18 \\mathrm{~km} / \\mathrm{h}$", 18),
    ("$18\\,\\text{m}\\cdot\\text{s}^{-1}$", 18),
    ("The difference between the two is 18.", 18),
    ("All three of them have 18.", 18),
    ("\\{18\\}", 18),
    ("\\boxed{18}\\boxed{18}", 18),
    ("18\\,\\operatorname{cm}", 18),
    ("18 \U0001f389", 18),
    ("\u2705 Final Answer: 18", 18),
    ("- **18**", 18),
    ("<td>18</td>", 18),
    ("18&nbsp;&euro;", 18),
    ("$18 \\mathrm{~cm}^2$", 18),
    ("\\SI{18}{cm}", 18),
    ("\\begin{aligned} 18 \\end{aligned}", 18),
    ("\u2234 18", 18),
    ("18(cm)", 18),
    ("18[cm]", 18),
    ("18m2", 18),
    ("18 kg/m3", 18),
    ("18 N\u00b7m", 18),
    ("18 m\u00b7s\u207b\u00b9", 18),
    ("18 N", 18),
    ("RM18", 18),
    ("USD 18", 18),
    ("CA$18", 18),
    ("Rs. 18/-", 18),
    ("\u20ac18,-", 18),
    ("%18", 18),
    ("Therefore,18", 18),
    ("a total of 18", 18),
    ("The least common multiple is 18", 18),
    ("The maximum is 18.", 18),
    ("The distance between A and B is 18 km.", 18),
    ("The positive root is 18.", 18),
    ("18,", 18),
    ("(18,)", 18),
    ("**18**,", 18),
    ("[18]", 18),
    ("{18}", 18),
    ("<48>", 48),
    ("<b>18</b>", 18),
    ('<span class="a">18</span>.', 18),
    ("<code>18</code>", 18),
    ("18 \u2713", 18),
    ("\u2705 18", 18),
    ("\u2022 18", 18),
    ("* 18", 18),
    ("\u00ab 18 \u00bb", 18),
    ("\\left(18\\right)", 18),
    ("\\displaystyle 18", 18),
    ("18^\\circ", 18),
    ("18^{\\circ}\\text{C}", 18),
    ("\\textcolor{red}{18}", 18),
    ("18g", 18),
    ("18 m/s", 18),
    ("\\boxed{370g}", 370),
    ("18lbs", 18),
    ("$18 a day", 18),
    # the value after the last equals sign
    ("3 \\times 6 = \\boxed{18}", 18),
    ("$$9 + 9 = \\boxed{18}.$$", 18),
    ("So 9 + 9 = \\boxed{18} eggs.", 18),
    ("6 * 3 = <<6*3=18>>18", 18),
    ("x = 18", 18),
    ("x=18.", 18),
    ("= 18", 18),
    ("x := 18", 18),
    ("3 * 6 = 18", 18),
    ("3 \u00d7 6 = 18 eggs", 18),
    ("3 \\times 6 = 18", 18),
    ("$3 * 6 = $18", 18),
    ("20% of 90 = 18", 18),
    ("2^2 + 14 = 18", 18),
    ("16 - 3 - 4 = 9 eggs\n9 * 2 = $18", 18),
    ("3*6 = 9*2 = 18", 18),
    ("\\boxed{3 \\cdot 6 = 18}", 18),
    ("x = -1/2", "-1/2"),
]

IS_NONE = [
    # several numbers
    ("4 or 5", "many_numbers"),
    ("18 or nineteen", "many_numbers"),
    ("18 and 19", "many_numbers"),
    ("1, 2, 3", "many_numbers"),
    ("1,2,3", "many_numbers"),
    ("[17, 18]", "many_numbers"),
    ("{17; 18}", "many_numbers"),
    ("1 000", "many_numbers"),
    ("1\\,000", "many_numbers"),
    ("17-18", "many_numbers"),
    ("17 - 18", "many_numbers"),
    ("17\u201318", "many_numbers"),
    ("2024-05-06", "many_numbers"),
    ("18 out of 20", "many_numbers"),
    ("5 feet 3 inches", "many_numbers"),
    ("5 20", "many_numbers"),
    ("twenty 5", "many_numbers"),
    ("5 twenty", "many_numbers"),
    ("1/-2", "many_numbers"),
    ("18 = 3 * 6", "many_numbers"),
    ("x = 17 or 18", "many_numbers"),
    ("x = 17, y = 18", "many_numbers"),
    ("x=17; y=18", "many_numbers"),
    ("x = 17 and y = 18", "many_numbers"),
    ("18 (nineteen)", "many_numbers"),
    # commas where they do not belong
    ("1,00", "many_numbers"),
    ("18,5", "many_numbers"),
    ("0,123", "many_numbers"),
    ("1000,000", "many_numbers"),
    ("1,0000", "not_a_number"),
    ("1,,000", "many_numbers"),
    # lists, sums and measures of equal numbers
    ("18 boys\n18 girls", "many_numbers"),
    ("18 boys (18 girls)", "many_numbers"),
    ("Apples: 18\nPears: 18", "many_numbers"),
    ("1 " * 400, "many_numbers"),
    ("4, 4", "many_numbers"),
    ("[4,4]", "many_numbers"),
    ("18 and 18", "many_numbers"),
    ("18 + 18", "many_numbers"),
    ("18 - 18", "many_numbers"),
    ("18 out of 18", "many_numbers"),
    ("5 feet 5 inches", "many_numbers"),
    ("5 hours 5 minutes", "many_numbers"),
    ("18:18", "not_a_number"),
    # a box beside another number
    ("17 \\boxed{18}", "many_numbers"),
    ("17 or \\boxed{18}", "many_numbers"),
    ("9*2 = 17 \\boxed{18}", "many_numbers"),
    ("\\boxed{17}\\boxed{18}", "many_numbers"),
    ("not 9 + 9 \\boxed{18}", "not_a_number"),
    # number words that count nothing, or something else
    ("one two", "many_numbers"),
    ("three one", "many_numbers"),
    ("two sevenths", "not_a_number"),
    ("one hundredth", "not_a_number"),
    ("twenty-first", "not_a_number"),
    ("18 twelfths", "not_a_number"),
    ("3 to one", "not_a_number"),
    ("one in 18", "not_a_number"),
    ("which one?", "not_a_number"),
    ("this one", "not_a_number"),
    ("no one", "not_a_number"),
    ("one half", "not_a_number"),
    ("two thirds", "not_a_number"),
    ("eighteen or nineteen", "many_numbers"),
    ("seven-eleven", "not_a_number"),
    # no mixed numbers, and no minus
    ("-\\left(18\\right)", "not_a_number"),
    ("- (18)", "not_a_number"),
    ("-\\boxed{18}", "not_a_number"),
    ("-\\text{18}", "not_a_number"),
    ("- eighteen", "not_a_number"),
    ("\u2014 18", "not_a_number"),
    ("3 4/2", "not_a_number"),
    ("3.5 1/2", "not_a_number"),
    ("3 1/0", "not_a_number"),
    ("x - 18", "not_a_number"),
    ("x minus 18", "not_a_number"),
    ("eggs minus 18", "not_a_number"),
    ("The answer is - 18", "not_a_number"),
    ("She earns ($5)", "not_a_number"),
    # other times of day
    ("12:30", "not_a_number"),
    ("5:30 PM", "not_a_number"),
    ("17:45", "not_a_number"),
    ("5:00", "not_a_number"),
    # LaTeX's signs
    ("\\pm 18", "not_a_number"),
    ("\\le 18", "not_a_number"),
    ("\\ne 18", "not_a_number"),
    ("x \\geq 18", "not_a_number"),
    ("\\approx 18", "not_a_number"),
    ("\\dots 18", "not_a_number"),
    # HTML that strikes out, or raises
    ("<s>18</s>", "not_a_number"),
    ("<del>17</del> 18", "many_numbers"),
    ("1<sup>8</sup>", "not_a_number"),
    ("~~17~~ 18", "many_numbers"),
    ("18 \u274c", "not_a_number"),
    # one word, but no number
    ("3.(3)", "not_a_number"),
    ("0.3 recurring", "not_a_number"),
    ("18 and a third", "not_a_number"),
    ("18 and one", "many_numbers"),
    ("the seventeen, 18", "many_numbers"),
    ("18 doubled", "not_a_number"),
    ("18% of the number", "not_a_number"),
    ("eggs / 18", "not_a_number"),
    ("eggs per 18", "not_a_number"),
    ("18 bil", "not_a_number"),
    ("18. No.", "not_a_number"),
    ("18 hundred-dollar bills", "not_a_number"),
    ("n\u043et 18", "not_a_number"),
    ('<span style="text-decoration:line-through">18</span>', "not_a_number"),
    ("18 \\pi \\text{ cm}^2", "not_a_number"),
    ("\\pi 18", "not_a_number"),
    ("i 18", "not_a_number"),
    ("pi 18", "not_a_number"),
    ("n^2, 18", "many_numbers"),
    ("\\boxed{n^2} \\boxed{18}", "many_numbers"),
    ("x \\to 18", "not_a_number"),
    ("\\operatorname{arctg} 18", "not_a_number"),
    ("18/x", "not_a_number"),
    ("18 / x", "not_a_number"),
    ("x 18", "not_a_number"),
    ("18% of x", "not_a_number"),
    ("18:x", "not_a_number"),
    ("7.30am", "not_a_number"),
    ("$18m", "not_a_number"),
    ("\u20ac3.5m", "not_a_number"),
    ("18 tn", "not_a_number"),
    ("18 grand", "not_a_number"),
    ("18, ...", "not_a_number"),
    ("18 etc.", "not_a_number"),
    ("18 and so on", "not_a_number"),
    ("18 th", "not_a_number"),
    ("18\u00e8me", "not_a_number"),
    ("18-\u0439", "not_a_number"),
    ("18'inci", "not_a_number"),
    ("1\u0338", "not_a_number"),
    ("0.3\u0305", "not_a_number"),
    ("18\u5341", "not_a_number"),
    ("18\u756a\u76ee", "not_a_number"),
    ("&lt;18", "not_a_number"),
    ("&#8776; 18", "not_a_number"),
    ("12:30", "not_a_number"),
    ("3:1", "not_a_number"),
    ("0x12", "not_a_number"),
    ("1.2.3", "not_a_number"),
    ("3/4/5", "not_a_number"),
    ("1_000", "not_a_number"),
    ("18^2", "not_a_number"),
    ("2^{18}", "not_a_number"),
    ("1e5.5", "not_a_number"),
    ("x12", "not_a_number"),
    ("x**18", "not_a_number"),
    ("x * 18", "not_a_number"),
    ("18x", "not_a_number"),
    ("2t", "not_a_number"),
    ("18xy", "not_a_number"),
    ("18abc", "not_a_number"),
    ("1\uff18", "not_a_number"),
    ("1\u0968", "not_a_number"),
    ("18\u00b9", "not_a_number"),
    ("18 x", "not_a_number"),
    ("18i", "not_a_number"),
    ("18\u03c0", "not_a_number"),
    ("18 pi", "not_a_number"),
    ("18!", "not_a_number"),
    ("18 squared", "not_a_number"),
    ("f(18)", "not_a_number"),
    ("sqrt(18)", "not_a_number"),
    ("\\sqrt{18}", "not_a_number"),
    ("\u221a18", "not_a_number"),
    ("|18|", "not_a_number"),
    ("5th", "not_a_number"),
    ("the 2nd", "not_a_number"),
    ("18ish", "not_a_number"),
    ("18e", "not_a_number"),
    ("3.33...", "not_a_number"),
    ("3.33\u2026", "not_a_number"),
    ("1/0", "not_a_number"),
    ("\\frac{1}{0}", "not_a_number"),
    ("\\frac{x}{2}", "not_a_number"),
    ("18+", "not_a_number"),
    ("--18", "not_a_number"),
    ("-$-18", "not_a_number"),
    ("x-18", "not_a_number"),
    ("\u00b118", "not_a_number"),
    ("~18", "not_a_number"),
    ("> 18", "not_a_number"),
    ("\u226518", "not_a_number"),
    ("18?", "not_a_number"),
    ("\\boxed{18", "not_a_number"),
    # words that change the meaning
    ("not 18", "not_a_number"),
    ("close to 18", "not_a_number"),
    ("the square of 18", "not_a_number"),
    ("sin 18", "not_a_number"),
    ("every number besides 18", "not_a_number"),
    ("18 tens", "not_a_number"),
    ("18 in hexadecimal", "not_a_number"),
    ("no more than 18", "not_a_number"),
    ("It isn't 18", "not_a_number"),
    ("It isn\u2019t 18", "not_a_number"),
    ("anything but 18", "not_a_number"),
    ("18 is wrong", "not_a_number"),
    ("about 18", "not_a_number"),
    ("About 18 eggs", "not_a_number"),
    ("approximately 18", "not_a_number"),
    ("almost 18", "not_a_number"),
    ("at least 18", "not_a_number"),
    ("18 at most", "not_a_number"),
    ("more than 18", "not_a_number"),
    ("over 18", "not_a_number"),
    ("up to 18", "not_a_number"),
    ("18 or so", "not_a_number"),
    ("maybe 18", "not_a_number"),
    ("between 18", "not_a_number"),
    ("5k", "not_a_number"),
    ("$5K", "not_a_number"),
    ("5 M", "not_a_number"),
    ("5 and a half", "not_a_number"),
    ("5 and a quarter", "not_a_number"),
    ("half of 18", "not_a_number"),
    ("twice 18", "not_a_number"),
    ("the opposite of 18", "not_a_number"),
    ("18 divided by x", "not_a_number"),
    ("18 hundredths", "not_a_number"),
    ("not x = 18", "not_a_number"),
    ("x != 18", "not_a_number"),
    ("x =/= 18", "not_a_number"),
    ("x \\neq y = 18", "not_a_number"),
    ("x <= 18", "not_a_number"),
    ("x => 18", "not_a_number"),
    ("54/3 \u2248 x = 18", "not_a_number"),
    # no number at all
    ("", "not_a_number"),
    ("   \n", "not_a_number"),
    ("eggs", "not_a_number"),
    ("NaN", "not_a_number"),
    ("inf", "not_a_number"),
    ("-", "not_a_number"),
    ("$", "not_a_number"),
    (".", "not_a_number"),
    ("3 * 6 =", "not_a_number"),
    ("\u00b2", "not_a_number"),
    ("5\u00b2", "not_a_number"),
    ("\u2160", "not_a_number"),
    # characters that hide something
    ("18\u200b", "not_a_number"),
    ("\u202e18", "not_a_number"),
    ("1\u200d8", "not_a_number"),
    ("18\x00", "not_a_number"),
    ("18 \u0661", "many_numbers"),
    ("\ud800 18", "not_a_number"),
    # too long
    ("9" * 401, "too_long"),
    ("1/" + "9" * 401, "too_long"),
    ("9" * 5000, "too_long"),
    ("1e401", "too_long"),
    ("1e-401", "too_long"),
    ("1e" + "9" * 300, "too_long"),
    ("18" + " eggs" * 500, "too_long"),
    ("18" + " eggs" * 21, "too_long"),
]

# Equations that state 18, and texts with a `=` that do not.
STATES = [
    "(10-1)*2 = 18",
    "6*$3 = $18",
    "\\begin{align*} x &= 18 \\end{align*}",
    "9 pizzas + 9 pizzas = 18 pizzas",
    "Suzy = 18",
    "18 because 9 x 2 = 18",
    "9 push-ups + 9 push-ups = 18",
    "9 cups of flour + 9 cups of sugar = 18 cups",
    "$36 / 2 people = $18 per person",
    "9 kgs + 9 kgs = 18 kgs",
    "2(4 + 5) = 18",
    "P = 2(l+w) = 2(4+5) = 18",
    "(2)(9) = 18",
    "\\angle ABC = 18^\\circ",
    "m∠A = 18°",
    "\\theta = 18^\\circ",
    "\\overline{AB} = 18",
    "S_{\\triangle ABC} = 18",
    "12 - (-6) = 18",
    "(-3) × (-6) = 18",
    "3! × 3 = 18",
    "2⁴ + 2 = 18",
    "\\gcd(36,54) = 18",
    "36∶2＝18",
    "36÷2=18（千米）",
    "3 pounds * $6/pound = $18",
    "2 h × 9 km/h = 18 km",
    "F = ma = 3 * 6 = 18 N",
    "A = l × w = 3 × 6 = 18",
    "2x = 36, x = 18",
    "2x = 36, so x = 18",
    "x + 3 = 21 → x = 18",
    "x + 3 = 21 \\implies x = 18",
    # one plain letter
    "x = 18",
    "x=18.",
    "$x = 18$",
    "so x = 18",
    "the value of x = 18",
    "x_1 = 18",
    "x_{12} = 18",
    "\\boxed{n = 18}",
    "x = y = 18",
    # words
    "Total = 18",
    "Total cost = 18",
    "Cost of a ticket = 18",
    "AB = 18 cm",
    "Итого = 18",
    "总数 = 18",
    "Total cost = price x quantity = 18",
    "Minutes per day x days = 18",
    "distance / time = 18",
    # arithmetic without unknowns
    "3 * 6 = 18",
    "3*6 = 9*2 = 18",
    "x = 3 * 6 = 18",
    "3 x 6 = 18",
    "9 eggs × $2 = $18",
    "20% of 90 = 18",
    "-3 + 21 = 18",
    "(2 + 4) * 3 = 18",
    "2^2 + 14 = 18",
    "4² + 2 = 18",
    "\\frac{36}{2} = 18",
    "\\frac{3 \\times 12}{2} = 18",
    "\\sqrt{324} = 18",
    "3 m × 6 m = 18 m^2",
    "36 km / 2 h = 18 km/h",
    # working, and then the answer
    "2x = 36\nx = 18",
    "x = 9\n2 * 9 = 18",
    "x = 36/2\nx = 18",
    "16 - 7 = 9 eggs\n9 * 2 = $18",
    "= 18",
    "x == 18",
    "x := 18",
]

DOES_NOT = [
    "17, since 9 + 9 = 18",
    "Answer: 17 (9 + 9 = 18)",
    "The answer is 17 eggs. 9 + 9 = 18",
    "The total is 17. 9 + 9 = 18",
    "#### 17\n9 + 9 = 18",
    "17\n= 18",
    "The answer is seventeen. 9 + 9 = 18",
    "x = seventeen, x = 18",
    "seventeen = 18",
    "x is 17, y = 18",
    "x: 17, y = 18",
    "x and y = 18",
    "Tom + two = 18",
    "x doubled = 18",
    "20% OF THE TOTAL = 18",
    "x_1 = 17, x_2 = 18",
    "x_{1} = 17; x_{2} = 18",
    "case 1 = 17, case 2 = 18",
    "17 = 17, 18 = 18",
    "17 = 18 = 18",
    "1 = 2 = 3 = 18 = 18",
    "17 = 18",
    "0 = 18",
    "5 and 7 = 18",
    "(3, 4) = 18",
    "2(\\text{Area} = 18)",
    "about $x = 18$",
    "twice x = 18",
    "twice Tom = 18",
    "double the price = 18",
    "three times the number = 18",
    "x squared = 18",
    "the square of x = 18",
    "1/3 of the number = 18",
    "20% of the total = 18",
    "2 apples = 18",
    "2πr = 18",
    "πd = 18",
    "lwh = 18",
    "sinx = 18",
    "() × 3 = 18",
    "3 * _ = 18",
    "... + 3 = 18",
    "x *= 18",
    "if x = 18",
    "x = 17\nx = 18",
    "x = 17, x = 18",
    "The answer is 17.\n9 + 9 = 18",
    "Answer: 17\n9 * 2 = 18",
    # a multiple, a power, a part of an unknown
    "2x = 18",
    "2 x = 18",
    "2X = 18",
    "2 \\cdot x = 18",
    "2a = 18",
    "2m = 18",
    "2xy = 18",
    "xy = 18",
    "ab = 18",
    "x y = 18",
    "0.5n = 18",
    "\\frac12 x = 18",
    "x^2 = 18",
    "x^{2} = 18",
    "x² = 18",
    "x**2 = 18",
    "2^x = 18",
    "x/2 = 18",
    "x / y = 18",
    "\\frac{x}{2} = 18",
    "-x = 18",
    "−x = 18",
    "|x| = 18",
    "x! = 18",
    "\\sqrt{x} = 18",
    "√x = 18",
    "sin x = 18",
    "\\log x = 18",
    "f(x) = 18",
    "f(3) = 18",
    "x + 3 = 18",
    "3 + x = 18",
    "x + y = 18",
    "x - y = 18",
    "5 - x = 18",
    "2(x + 1) = 18",
    "3n + 2 = 18",
    "2m + 4 = 18",
    "3x + 2y = 5x = 18",
    "so 2x = 18",
    # the same in words
    "2 * Total = 18",
    "Total / 2 = 18",
    "Total - 5 = 18",
    "-Total = 18",
    # no equation
    "x != 18",
    "x ≠ 18",
    "x =/= 18",
    "x <= 18",
    "x => 18",
    "x ≈ y = 18",
    "not x = 18",
    # two unknowns
    "x = 17, y = 18",
    "x = 17; y = 18",
    "x = 17 and y = 18",
    "x = 17\ny = 18",
    "a = 17\nb = -18\nc = 18",
]


def _texts(block: str) -> list[str]:
    """Return the texts that a block of lines holds between its bars."""
    return [text.strip() for line in block.splitlines() for text in line.split("|") if text.strip()]


# Right answers as people write them in their language; each states 18.
HONEST = {
    "English": _texts(
        """18 eggs | She ate some and has 18 left | 18 fast cars | 18 odd numbers | 18 KB | Ali has 18 |
        Max has 18 apples | The maximum is 18 | The minimum is 18 | The average is 18 |
        The difference between them is 18 | The total is 18 quarts | 18 miles | 18 set of cards | It took 18 sec |
        18 more than Bob | She has 18 fewer apples | Each one of the boys has 18 | Kira has 18 apples | Ana: 18 |
        Dan has 18 | The distance between A and B is 18 miles | 18 minutes per lap | Sam now has 18 of them |
        Min has 18 cards | Cam has 18 marbles | Nu: 18 | Asi: 18 | Tai: 18 | The greatest common divisor is 18 |
        Hon has 18 | Lan: 18 | 18 second graders | Demi: 18 | An: 18 | Ella: 18 | Mai: 18 | 18 of the eggs |
        18 been sold | 18 pods"""
    ),
    "German": _texts(
        """Die Antwort ist 18. | Sie verdient 18 Euro pro Tag. | Insgesamt 18 | 18 Äpfel | 18 Stück | Das sind 18 |
        18 am Tag | Es bleiben noch 18 Äpfel übrig. | Sie verkauft 18 Eier an die Nachbarn. |
        Der Turm ist 18 m hoch. | Es sind noch 18 | Jeder bekommt 18 Bonbons. | Anna hat nun 18 Murmeln. |
        Die Fahrt dauert 18 Minuten. | Die Summe beträgt 18. | Der Abstand zwischen A und B beträgt 18 km. |
        Das Maximum ist 18. | Antwort: 18 Kinder | Sie macht 18 Fehler | Er ist 18 Jahre alt. |
        Also bleiben ihr 18 Euro."""
    ),
    "French": _texts(
        """Le total est 18. | Il ne reste que 18 œufs | Il y en a 18 | La réponse est 18 € | Réponse : 18 |
        18 de plus | 18 ans de plus | Il y a 18 œufs dans les paniers. | 18 chaises autour de la table |
        La distance entre A et B est 18 km | Elle gagne 18 euros par jour. | soit 18 œufs |
        Il lui reste 18 billes. | Chaque enfant reçoit 18 bonbons. | Le maximum est 18 | 18 au total |
        Le nombre est 18 | Elle a 18 pommes de moins que Paul. | Paul a donc 18 ans. | Cela fait 18 jours. |
        En tout 18 | Le drapeau est à 18 m du sol"""
    ),
    "Spanish": _texts(
        """La respuesta es 18. | Hay 18 huevos | Ya tiene 18 | 18 años | Quedan 18 manzanas. | En total son 18. |
        Ella gana 18 dólares al día. | Le sobran 18 caramelos. | La distancia entre A y B es 18 km |
        Cada niño recibe 18 | Ana tiene 18 canicas. | Tiene 18 más que Juan. | Compró 18 libros | El máximo es 18 |
        18 cuartos | Por lo tanto, quedan 18. | Entonces le quedan 18 euros. | El resultado es 18 |
        Tarda 18 minutos. | La suma es 18."""
    ),
    "Portuguese": _texts(
        """A resposta é 18. | Ela tem 18 maçãs | 18 reais | No total, são 18 | Restam apenas 18 ovos |
        Sobraram 18 balas. | Ana tem 18 anos. | Cada criança recebe 18 doces. | 18 quartos |
        Ela ganha 18 dólares por dia. | A distância entre A e B é 18 km | Então são 18 horas. |
        Ele comprou 18 livros. | São 18 | O total é de 18 reais. | O máximo é 18 | Logo, ficam 18. | Resposta: 18"""
    ),
    "Italian": _texts(
        """La risposta è 18. | Rimangono 18 uova | 18 mele | In totale sono 18. | Ne restano 18 |
        Ci sono 18 sedie intorno al tavolo | Guadagna 18 dollari al giorno. | Anna ha 18 anni. |
        Ogni bambino riceve 18 caramelle. | 18 centesimi | Il massimo è 18 | La distanza tra A e B è 18 km |
        Quindi spende 18 euro. | Ha 18 biglie in più di Marco. | Il totale è 18 | Ne ha 18 | Impiega 18 minuti. |
        La somma è 18"""
    ),
    "Dutch": _texts(
        """Het antwoord is 18. | Er zijn 18 eieren | In totaal 18 | Er blijven nog 18 appels over. |
        Ze verdient 18 euro per dag. | Elk kind krijgt 18 snoepjes. | Dan heeft hij 18 euro. | Anna is 18 jaar. |
        De afstand tussen A en B is 18 km | Hij heeft er 18. | 18 kop koffie | Het kost 18 euro. | 18 stuks |
        Het duurt 18 minuten. | Dat zijn 18 boeken. | Jan heeft nu 18 knikkers."""
    ),
    "Swedish": _texts(
        """Svaret är 18. | Hon har 18 ägg | Det finns 18 tal | Totalt 18 | Hon tjänar 18 dollar per dag. |
        Varje barn får 18 godisar. | Det blir 18 kvar. | Anna är 18 år. | Avståndet mellan A och B är 18 km |
        Det kostar 18 kronor. | Då har han 18 kulor. | Det tar 18 minuter. | 18 stycken | Summan är 18. |
        Svar: 18 kr"""
    ),
    "Danish, Norwegian": _texts(
        """Svaret er 18. | Hun har 18 æg | Hun har 18 epler igjen. | I alt 18 | Det er 18 tilbage. |
        Hvert barn får 18 stykker. | Anna er 18 år gammel. | Det koster 18 kroner. |
        Afstanden mellem A og B er 18 km | 18 feil | Han har nå 18 kuler. | Til sammen 18 |
        Det tager 18 minutter. | Resultatet er 18"""
    ),
    "Finnish": _texts(
        """Vastaus on 18. | Hänellä on 18 omenaa. | Yhteensä 18 | Jäljellä on 18 munaa. |
        Hän ansaitsee 18 euroa päivässä. | Jokainen lapsi saa 18 karkkia. | Annalla on 18 euroa. |
        Matka kestää 18 minuuttia. | 18 kpl | Vastaus: 18 euroa | Hinta on 18 euroa. | Poikia on 18. | Summa on 18"""
    ),
    "Hungarian": _texts(
        """A válasz 18. | 18 alma maradt. | Összesen 18 | Marad 18 tojás. | Naponta 18 dollárt keres. |
        Minden gyerek 18 cukorkát kap. | Anna 18 éves. | Bence 18 almát vett. | Az összeg 18 | A távolság 18 km. |
        18 darab | Tehát 18 forintja van. | Válasz: 18 perc"""
    ),
    "Polish": _texts(
        """Odpowiedź: 18 zł | Zostało 18 jabłek | Odpowiedź to 18. | Razem 18 | Ania ma 18 lat. |
        Zostanie jej 18 jajek. | Zarabia 18 dolarów dziennie. | Każde dziecko dostanie 18 cukierków. |
        Jest ich 18 | Kosztuje 18 zł. | Odległość między A i B wynosi 18 km | Suma wynosi 18 | Trwa to 18 minut. |
        18 sztuk"""
    ),
    "Czech, Slovak": _texts(
        """Odpověď je 18. | Zbylo 18 jablek. | Celkem 18 | Má 18 korun. | Vydělá 18 dolarů denně. |
        Každé dítě dostane 18 bonbonů. | Anna má 18 let. | Zůstane 18 vajec. | Je jich 18 | Součet je 18 |
        18 kusů | Odpoveď je 18. | Zostalo 18 jabĺk. | Trvá to 18 minut."""
    ),
    "Romanian": _texts(
        """Răspunsul este 18. | Au rămas 18 mere. | În total sunt 18 | Ana are 18 ani. | Câștigă 18 dolari pe zi. |
        Fiecare copil primește 18 bomboane. | Mai are 18 lei. | Suma este 18 | Distanța dintre A și B este 18 km |
        18 bucăți | De 18 ori | Îi rămân 18 ouă. | Răspuns: 18"""
    ),
    "Serbian, Croatian, Slovenian": _texts(
        """Odgovor je 18. | Ostalo je 18 jabuka. | Na stolu je bilo 18 jabuka. | Ukupno 18 | Ana ima 18 godina. |
        Svako dijete dobije 18 bombona. | Zarađuje 18 dolara dnevno. | Već ima 18 eura. | Zbroj je 18 |
        Odgovor je 18 evrov. | Skupaj 18 jabolk. | Traje 18 minuta. | Potrebno je 18 dana. | To je 18"""
    ),
    "Turkish": _texts(
        """Cevap 18 | 18 yumurta kaldı | Ali'nin 18 elması var. | Ali, Veli'den 18 fazla elma topladı | Toplam 18 |
        Geriye 18 lira kalır. | Günde 18 dolar kazanır. | Her çocuk 18 şeker alır. | Cevap: 18 dakika |
        Ayşe 18 yaşındadır. | Sonuç 18'dir. | A ile B arasındaki uzaklık 18 km | 18 tane |
        Ayşe, Ali'den 18 eksik aldı"""
    ),
    "Indonesian": _texts(
        """Jawabannya adalah 18 | 18 butir telur | Total 18 | Ani memiliki 18 apel. | Sisanya 18 telur. |
        Dia menghasilkan 18 dolar per hari. | Setiap anak mendapat 18 permen. | Jadi, ada 18 orang. |
        18 laki-laki | 18 kemungkinan | Jarak dari A ke B adalah 18 km | Sehingga tersisa 18 buah. | 9 + 9 = 18 |
        Hasilnya 18 | Waktunya 18 menit. | Andi punya 18 kelereng lebih banyak."""
    ),
    "Vietnamese": _texts(
        """Câu trả lời là 18 | 18 quả táo | Đáp số: 18 | Tổng cộng là 18 | Còn lại 18 quả trứng. |
        Mỗi ngày cô ấy kiếm được 18 đô la. | Mỗi bạn được 18 viên kẹo. | Lan có 18 viên bi. | Nhiệt độ là 18 độ |
        Tốc độ là 18 km/h | An 18 tuổi. | Vậy có 18 học sinh. | Đáp án là 18 | Mất 18 phút. | 18 phần"""
    ),
    "Swahili": _texts(
        """Jibu ni 18 | Jumla ni 18 | Ana mayai 18. | Amebakiwa na mayai 18. | Anapata dola 18 kwa siku. |
        Kila mtoto anapata peremende 18. | Kuna watoto 18. | Bei ni dola 18 | Asha ana umri wa miaka 18. |
        Jibu: 18 | Ni dakika 18. | Kwa hivyo ana 18."""
    ),
    "Tagalog": _texts(
        """Ang sagot ay 18. | May 18 itlog siya. | Kabuuan ay 18 | Kumikita siya ng 18 dolyar bawat araw. |
        Bawat bata ay may 18 kendi. | Natira ang 18 mansanas. | Si Ana ay 18 taong gulang. | Sagot: 18 |
        May natitirang 18 piso. | 18 piraso | 18 minuto | Siya ay may 18."""
    ),
    "Russian": _texts(
        """Ответ: 18 | 18 яблок | Всего 18 рублей. | 18кг | Осталось 18 яиц. |
        Она зарабатывает 18 долларов в день. | Каждый ребёнок получит 18 конфет. | Ане 18 лет. | Итак, 18 |
        В корзине 18 яблок. | У Маши 18 яблок. | Расстояние равно 18 км. | 18 т | 18 ошибок | Получится 18 штук. |
        На это уйдёт 18 минут. | 18 целых яблок | Значит, стало 18."""
    ),
    "Ukrainian, Bulgarian": _texts(
        """Відповідь: 18 | Залишилось 18 яблук. | Усього 18 | Вона заробляє 18 доларів на день. |
        Кожна дитина отримає 18 цукерок. | Анні 18 років. | Отже, 18 гривень. | Отговорът е 18. |
        Остават 18 ябълки. | Общо 18 лева. | Ана е на 18 години. | Всяко дете получава 18 бонбона. | За 18 минути"""
    ),
    "Greek": _texts(
        """Η απάντηση είναι 18 | 18 αυγά | Συνολικά 18 | Μένουν 18 μήλα. | Κερδίζει 18 δολάρια την ημέρα. |
        Κάθε παιδί παίρνει 18 καραμέλες. | Η Άννα είναι 18 ετών. | Μπορεί να αγοράσει 18 μήλα | Απάντηση: 18 |
        Έχει 18 ευρώ. | Το άθροισμα είναι 18 | Η απόσταση είναι 18 χλμ. | Χρειάζεται 18 λεπτά."""
    ),
    "Arabic": _texts(
        """الجواب هو 18 | 18 بيضة | الإجابة هي 18 | المجموع 18 | بقي 18 تفاحة | تكسب 18 دولارًا في اليوم |
        لديها 18 بيضة | يحصل كل طفل على 18 قطعة حلوى | عمر أحمد 18 سنة | المسافة بين أ و ب هي 18 كم |
        إذن العدد هو 18 | الناتج يساوي 18 | يستغرق 18 دقيقة"""
    ),
    "Persian": _texts(
        """او 18 سیب دارد | جواب 18 است | پاسخ: 18 | مجموع 18 است | 18 تخم مرغ باقی می ماند |
        او روزانه 18 دلار درآمد دارد | هر کودک 18 آب نبات دارد | علی 18 سال دارد | جواب برابر 18 است |
        فاصله 18 کیلومتر است | بنابراین 18 نفر هستند | 18 تا | 18 دقیقه"""
    ),
    "Urdu": _texts(
        """جواب 18 ہے | کل 18 سیب ہیں | اس کے پاس 18 انڈے ہیں | وہ روزانہ 18 ڈالر کماتی ہے |
        ہر بچے کو 18 ٹافیاں ملیں گی | علی کی عمر 18 سال ہے | 18 روپے | باقی 18 بچے | فاصلہ 18 کلومیٹر ہے |
        مجموعہ 18 ہے | جواب: 18 | 18 منٹ"""
    ),
    "Hebrew": _texts(
        """התשובה היא 18 | 18 ביצים | סך הכל 18 | נשארו 18 תפוחים | היא מרוויחה 18 דולר ביום |
        כל ילד מקבל 18 סוכריות | אנה בת 18 | יש לה 18 שקלים | התוצאה היא 18 | המרחק הוא 18 קילומטר | תשובה: 18 |
        לכן יש 18 ילדים | 18 דקות"""
    ),
    "Hindi": _texts(
        """18 रुपये | उत्तर 18 है | उत्तर १८ है। | कुल 18 | उसके पास 18 अंडे हैं | वह प्रतिदिन 18 डॉलर कमाती है |
        प्रत्येक बच्चे को 18 टॉफी मिलेंगी | राम की आयु 18 वर्ष है | 18 सेब बचे | योग 18 है | दूरी 18 किमी है |
        उत्तर: 18 | इसलिए 18 लोग हैं"""
    ),
    "Marathi, Nepali": _texts(
        """उत्तर 18 आहे | एकूण 18 | तिच्याकडे 18 अंडी आहेत | 18 रुपये शिल्लक | प्रत्येक मुलाला 18 चॉकलेट मिळतील |
        वय 18 वर्षे | 18 सफरचंद उरले | जम्मा 18 | उसँग 18 स्याउ छन् | बाँकी 18 रुपैयाँ | 18 जना | अन्तर 18 किमी"""
    ),
    "Bengali": _texts(
        """উত্তর ১৮ | 18 টাকা | উত্তর হল 18 | মোট 18 | তার কাছে 18 টি ডিম আছে | সে প্রতিদিন 18 ডলার আয় করে |
        প্রতিটি শিশু 18 টি চকোলেট পাবে | রহিমের বয়স 18 বছর | 18 টি আপেল বাকি আছে | যোগফল 18 | দূরত্ব 18 কিমি |
        উত্তর: 18"""
    ),
    "Tamil": _texts(
        """பதில் 18 | மொத்தம் 18 | அவளிடம் 18 முட்டைகள் உள்ளன | 18 ரூபாய் | மீதம் 18 ஆப்பிள்கள் |
        ஒவ்வொரு குழந்தைக்கும் 18 மிட்டாய் | ராமனின் வயது 18 | விடை: 18 | தூரம் 18 கிமீ | 18 நிமிடங்கள் |
        கூட்டுத்தொகை 18 | 18 பேர்"""
    ),
    "Telugu": _texts(
        """సమాధానం 18 | మొత్తం 18 | ఆమె వద్ద 18 గుడ్లు ఉన్నాయి | 18 రూపాయలు | మిగిలినవి 18 ఆపిల్స్ |
        ప్రతి పిల్లవాడికి 18 చాక్లెట్లు | రాము వయస్సు 18 సంవత్సరాలు | జవాబు: 18 | దూరం 18 కిమీ | 18 నిమిషాలు |
        మొత్తము 18 | 18 మంది"""
    ),
    "Chinese": _texts(
        """18元 | 18个 | 答案是18 | 一共有18个苹果。 | 还剩18元 | 18千克 | 18平方米 | 百分之18 | 「18」 | 【18】 |
        最大公约数是18 | 18种不同的方法 | 最少需要18次 | 她得到18元 | 经过18分钟 | 甲乙两地之间的距离是18千米 |
        节约18吨水 | 增加18个 | 减少18人 | 小明做错了18道题 | 18种可能 | 最近18天 | 最小公倍数是18 | 平均每人18个 |
        18加仑 | 小红今年18岁 | 非洲有18只大象 | 若干天后共18人 | 走过18公里 | 所以小明有18颗糖 | 答：18只。 |
        周长是18厘米 | 比他多18个 | 最多的是18 | 几何题共18道 | 无论如何都是18 | 半径是18厘米 | 他跑得比他快18秒"""
    ),
    "Japanese": _texts(
        """18個 | 答えは18です。 | 合計で18円です。 | １８個 | 残りは18個です。 | 駅まで18分です。 |
        あまりは18です | 余りは18 | 最大公約数は18です。 | 一人18個ずつもらえます。 | 太郎は18歳です。 |
        家の近くに18人います。 | したがって18人 | 距離は18kmです。 | 18円節約できます | 全部で18冊あります。 |
        答え：18分 | 18枚残っています。 | もともと18個ありました | 毎日18ドル稼ぎます。"""
    ),
    "Korean": _texts(
        """18명 | 답은 18입니다 | 18개입니다. | 모두 18원 | 정답은 18이다. | 남은 사과는 18개입니다. |
        하루에 18달러를 법니다. | 한 명당 18개씩 받습니다. | 철수는 18살입니다. | 최소공배수는 18입니다. |
        A와 B 사이의 거리는 18km입니다. | 18점입니다 | 18점이에요 | 18 제곱미터 | 따라서 18 | 총 18마리 | 18조각 |
        18분이 걸립니다. | 답: 18분 | 같은 사람이 18명 | 약속은 18번 있습니다"""
    ),
    "Thai": _texts(
        """18 บาท | คำตอบคือ 18 บาท | ๑๘ | รวมทั้งหมด 18 | เหลือ 18 ผล | เธอมีไข่ 18 ฟอง |
        เธอได้เงินวันละ 18 ดอลลาร์ | เด็กแต่ละคนได้ขนม 18 ชิ้น | อาจารย์มี 18 คน | อายุ 18 ปี | ตอบ 18 |
        ระยะทาง 18 กิโลเมตร | ใช้เวลา 18 นาที | ราคา 18 บาท | เด็กชายคงเหลือเงิน 18 บาท | อุณหภูมิสูงสุดคือ 18 |
        ระยะทางระหว่างเมืองคือ 18 กม."""
    ),
    "Georgian, Armenian, Amharic": _texts(
        """პასუხი არის 18 | სულ 18 | 18 ვაშლი | Պատասխանը 18 է | Ընդամենը 18 | 18 խնձոր | መልሱ 18 ነው | ጠቅላላ 18 |
        18 ብር"""
    ),
    "Catalan, Basque, Albanian, Afrikaans, Esperanto": _texts(
        """La resposta és 18. | Queden 18 pomes. | Erantzuna 18 da. | 18 sagar | Përgjigja është 18. |
        Ka 18 mollë. | Die antwoord is 18. | Sy het 18 appels. | La respondo estas 18. | Ŝi havas 18 pomojn. |
        Svarið er 18. | Hún á 18 epli."""
    ),
    "Baltic": _texts(
        """Vastus on 18. | Tal on 18 õuna. | Kokku 18 | Atbilde ir 18. | Viņai ir 18 āboli. | Kopā 18 |
        Atsakymas yra 18. | Ji turi 18 obuolių. | Iš viso 18 | 18 eurų | 18 eiro | 18 eurot"""
    ),
}

# The same number, denied, hedged, bounded, scaled, or one of two.
DOUBTFUL = {
    "English": _texts(
        """not 18 | some 18 | 18-ish | 18ish | 18-odd | few 18 | I guess 18 | 18 or so | at least 18 | roughly 18 |
        no more than 18 | 18 (about) | beneath 18 | surpassing 18 | 18 is too small | as low as 18 | 18 myriad |
        rules out 18 | in the vicinity of 18 | 18 sevenths | rather than 18 | would 18 be"""
    ),
    "German": _texts(
        """nicht 18 | etwa 18 | 18 Millionen | rund 18 | fast 18 | mindestens 18 | kein 18 | ca. 18 | über 18 |
        18 Fünftel | ein Viertel von 18 | 18, glaube ich | es könnten 18 sein | dreimal 18 | anstatt 18 |
        unterhalb von 18 | 18 hoch zwei | um die 18 | an die 18 | höchstens 18 | 18 abwärts | größer als 18 |
        kaum 18"""
    ),
    "French": _texts(
        """pas 18 | environ 18 | au moins 18 | plus de 18 | Ce n'est pas 18 | 18 milliards | peut-être 18 |
        18 dixièmes | le quart de 18 | au-delà de 18 | à partir de 18 | à peine 18 | dans les 18 | autour de 18 |
        18 au carré | racine carrée de 18 | plutôt que 18 | il me semble que 18 | hormis 18 | deux fois 18 |
        18 tout au plus"""
    ),
    "Spanish": _texts(
        """casi 18 | 18 docenas | menos de 18 | no 18 | nunca 18 | unos 18 | tal vez 18 | 18 y medio | 18 mil |
        jamás 18 | 18 aprox. | a eso de 18 | como máximo 18 | en vez de 18 | el doble de 18 |
        la tercera parte de 18 | 18 al cuadrado | raíz de 18 | menor que 18 | debería ser 18 | rondan los 18 |
        18 décimas | puede ser 18"""
    ),
    "Portuguese": _texts(
        """não 18 | quase 18 | cerca de 18 | mais de 18 | talvez 18 | 18 milhões | nem 18 | deve ser 18 |
        mais ou menos 18 | ultrapassa 18 | o dobro de 18 | um terço de 18 | em vez de 18 | ao invés de 18 |
        raiz quadrada de 18 | 18 ao quadrado | na casa dos 18 | 18 vírgula cinco | acredito que 18 |
        menor do que 18 | 18 trilhões"""
    ),
    "Italian": _texts(
        """non 18 | circa 18 | quasi 18 | almeno 18 | più di 18 | 18 mila | forse 18 | pressappoco 18 |
        18 più o meno | attorno ai 18 | sotto i 18 | può essere 18 | secondo me 18 | un terzo di 18 |
        il triplo di 18 | due volte 18 | radice quadrata di 18 | 18 al quadrato | nemmeno 18 | 18 virgola cinque |
        diverso da 18"""
    ),
    "Dutch": _texts(
        """niet 18 | ongeveer 18 | bijna 18 | meer dan 18 | misschien 18 | 18 miljoen | 18 is fout | omstreeks 18 |
        zowat 18 | op zijn hoogst 18 | 18, denk ik | zou 18 kunnen zijn | een kwart van 18 | twee keer 18 |
        op 18 na | in plaats van 18 | wortel van 18 | naar schatting 18 | 18 komma vijf | een 18-tal"""
    ),
    "Swedish": _texts(
        """inte 18 | ungefär 18 | ikke 18 | kanske 18 | minst 18 | 18 tusen | 18 är fel | uppemot 18 |
        som mest 18 | möjligen 18 | jag gissar 18 | en tredjedel av 18 | dubbelt 18 | två gånger 18 |
        i stället för 18 | roten ur 18 | 18 komma fem | 18 hundra | ett 18-tal | gott och väl 18"""
    ),
    "Danish, Norwegian": _texts(
        """18 er forkert | 18 er feil | tæt på 18 | opp mot 18 | knap 18 | drøyt 18 | muligens 18 |
        sannsynligvis 18 | jeg gætter på 18 | det dobbelte af 18 | halvparten av 18 | to ganger 18 |
        18 tiendedele | måske 18 | unntatt 18 | kvadratroten av 18"""
    ),
    "Finnish": _texts(
        """ei 18 | noin 18 | ehkä 18 | vähintään 18 | suurin piirtein 18 | lähellä 18 | enemmän kuin 18 |
        mahdollisesti 18 | voisi olla 18 | kaksi kertaa 18 | kolmasosa 18 | 18 pilkku viisi | 18 on väärin |
        arviolta 18 | neliöjuuri 18 | pienempi kuin 18 | 18 kymmenesosaa | reilut 18"""
    ),
    "Hungarian": _texts(
        """nem 18 | körülbelül 18 | legalább 18 | 18 helytelen | közel 18 | hozzávetőleg 18 | azt hiszem, 18 |
        szerintem 18 | a 18 fele | 18 kétszerese | kétszer 18 | 18 egész öt | kivéve 18 | 18 helyett |
        18-nél több | mínusz 18 híján | 18 négyzete | lehet, hogy 18"""
    ),
    "Polish": _texts(
        """nie 18 | około 18 | ponad 18 | może 18 | 18 tysięcy | 18 tys. | 18 to źle | w przybliżeniu 18 |
        bez mała 18 | więcej niż 18 | do 18 | raczej 18 | wydaje mi się, że 18 | 18 przecinek pięć | ćwierć 18 |
        dwa razy 18 | 18 dziesiątych | z wyjątkiem 18 | zamiast 18 | pierwiastek z 18 | mniejszy od 18"""
    ),
    "Czech, Slovak": _texts(
        """ne 18 | není 18 | asi 18 | alespoň 18 | 18 tisíc | 18 je špatně | málem 18 | více než 18 | nanejvýš 18 |
        až 18 | pravděpodobně 18 | myslím, že 18 | 18 celých pět | polovina 18 | dvojnásobek 18 | 18 desetin |
        kromě 18 | místo 18 | viac ako 18 | možno 18"""
    ),
    "Romanian": _texts(
        """nu 18 | aproximativ 18 | cel puțin 18 | 18 este greșit | în jur de 18 | cam 18 | măcar 18 | până la 18 |
        cred că e 18 | s-ar putea 18 | 18 de mii | o treime din 18 | dublul lui 18 | de două ori 18 |
        în loc de 18 | radical din 18 | 18 la pătrat | 18 virgulă cinci"""
    ),
    "Serbian, Croatian, Slovenian": _texts(
        """18 je netočno | 18 je pogrešno | okvirno 18 | blizu 18 | više od 18 | več kot 18 | najmanje 18 |
        vjerojatno 18 | mislim da je 18 | polovina od 18 | dva puta 18 | 18 zarez pet | osim 18 | korijen od 18 |
        manji od 18 | morda 18"""
    ),
    "Estonian, Latvian, Lithuanian": _texts(
        """mitte 18 | umbes 18 | ligikaudu 18 | rohkem kui 18 | kuni 18 | apmēram 18 | vairāk nekā 18 |
        mazāk nekā 18 | varbūt 18 | vismaz 18 | apie 18 | daugiau nei 18 | mažiau nei 18 | turbūt 18 | 18 milijonų"""
    ),
    "Catalan, Basque, Albanian, Icelandic": _texts(
        """gairebé 18 | almenys 18 | més de 18 | potser 18 | ez da 18 | gutxi gorabehera 18 | agian 18 |
        nuk është 18 | rreth 18 | pothuajse 18 | më shumë se 18 | ekki 18 | um það bil 18 | kannski 18 | 18 þúsund"""
    ),
    "Esperanto, Afrikaans, Welsh, Hausa": _texts(
        """proksimume 18 | ĉirkaŭ 18 | preskaŭ 18 | almenaŭ 18 | byna 18 | amper 18 | miskien 18 | 18 duisend |
        efallai 18 | o leiaf 18 | kusan 18 | fiye da 18"""
    ),
    "Turkish": _texts(
        """18 değil | yaklaşık 18 | en az 18 | belki 18 | 18 bin | 18 milyon | 18 yanlıştır | hemen hemen 18 |
        tahminen 18 | 18'den fazla | 18'den küçük | 18'in üzerinde | asgari 18 | 18 olmalı | 18 falan | 18 yüz |
        18 virgül beş | 18'in yarısı | iki kere 18 | 18 yerine | 18'in karekökü | 18 fazla"""
    ),
    "Indonesian": _texts(
        """bukan 18 | sekitar 18 | mungkin 18 | 18 ribu | 18 itu salah | nyaris 18 | mendekati 18 | di atas 18 |
        melebihi 18 | setidaknya 18 | hingga 18 | 18 ke atas | bisa jadi 18 | saya rasa 18 | 18 koma lima |
        sepertiga dari 18 | dua kali 18 | selain 18 | akar kuadrat dari 18 | 18 lebih"""
    ),
    "Vietnamese": _texts(
        """không 18 | khoảng 18 | ít nhất 18 | 18 triệu | chẳng phải 18 | 18 là sai | ước tính 18 | suýt 18 |
        vượt quá 18 | đến 18 | tôi nghĩ là 18 | 18 phẩy năm | một phần ba của 18 | gấp đôi 18 | hai lần 18 |
        18 phần mười | thay vì 18 | căn bậc hai của 18 | bình phương của 18 | nhiều hơn 18"""
    ),
    "Swahili": _texts(
        """18 si sahihi | hapana 18 | takribani 18 | kama 18 hivi | kadiri ya 18 | chini ya 18 | hadi 18 |
        18 au zaidi | huenda 18 | nadhani 18 | nusu ya 18 | 18 na nusu | mara mbili ya 18 | isipokuwa 18 |
        badala ya 18"""
    ),
    "Tagalog": _texts(
        """hindi 18 | 18 ay mali | mga 18 | tinatayang 18 | higit sa 18 | mahigit 18 | kulang sa 18 | hanggang 18 |
        marahil 18 | sa tingin ko 18 | 18 libo | kalahati ng 18 | 18 at kalahati | maliban sa 18"""
    ),
    "Russian": _texts(
        """не 18 | около 18 | примерно 18 | более 18 | может быть 18 | 18 тысяч | 18 млн | 18 — ошибка |
        никогда 18 | близко к 18 | где-то 18 | по меньшей мере 18 | 18 с небольшим | предположительно 18 |
        18 десятков | треть 18 | трижды 18 | 18 десятых | за исключением 18 | вместо 18 | квадрат 18 |
        18 в квадрате | вряд ли 18 | 18-й"""
    ),
    "Ukrainian, Bulgarian": _texts(
        """принаймні 18 | мінімум 18 | ймовірно 18 | здається 18 | 18 з гаком | окрім 18 | 18 десятків | майже 18 |
        близько 18 | понад 18 | към 18 | може би 18 | мисля 18 | 18 милиарда | освен 18 | почти 18"""
    ),
    "Greek": _texts(
        """δεν είναι 18 | περίπου 18 | τουλάχιστον 18 | 18 είναι λάθος | ποτέ 18 | γύρω στα 18 | κοντά στο 18 |
        περισσότερο από 18 | μέχρι 18 | 18 και άνω | μάλλον 18 | μπορεί να είναι 18 | νομίζω ότι 18 |
        18 κόμμα πέντε | το διπλάσιο του 18 | δύο φορές 18 | αντί για 18 | ρίζα του 18 | 18 στο τετράγωνο"""
    ),
    "Arabic": _texts(
        """ليس 18 | حوالي ١٨ | ربما 18 | أكثر من 18 | 18 ألف | 18 خاطئ | ما يقرب من 18 | قريب من 18 | اكبر من 18 |
        يتجاوز 18 | 18 فما فوق | قد تكون 18 | من المحتمل 18 | إما 18 | 18 مئات | ثلث 18 | ضعف 18 | ثلاثة أضعاف 18 |
        ما عدا 18 | بدلا من 18 | الجذر التربيعي لـ 18"""
    ),
    "Persian": _texts(
        """حدود ۱۸ | شاید 18 | 18 نیست | ۱۸ هزار | 18 نادرست است | هرگز 18 | بزرگتر از 18 | لااقل 18 | 18 به بالا |
        احتمالاً 18 | فکر کنم 18 | 18 و اندی | 18 ممیز پنج | یک سوم 18 | دو برابر 18 | منهای 18 | به جز 18 |
        به جای 18 | حداکثر 18 | بیش از 18"""
    ),
    "Urdu": _texts(
        """18 نہیں | تقریباً 18 | شاید 18 | 18 سے زیادہ | 18 سے کم | 18 یا | 18 ہزار | 18 سے زائد | غالباً 18 |
        18 ہو سکتا ہے | میرا خیال ہے 18 | پونے 18 | آدھا 18 | 18 کے علاوہ"""
    ),
    "Hebrew": _texts(
        """לא 18 | בערך 18 | לפחות 18 | 18 אלף | 18 שגוי | אף פעם 18 | כ 18 | לכל הפחות 18 | מינימום 18 | עד 18 |
        18 ויותר | ככל הנראה 18 | אני חושב 18 | נראה לי 18 | 18 מאות | 18 ורבע | כפול 18 | מלבד 18 | במקום 18 |
        שורש של 18"""
    ),
    "Hindi": _texts(
        """18 नहीं | लगभग १८ | शायद 18 | कम से कम 18 | 18 लाख | अंदाज़न 18 | 18 के आस-पास | 18 से बड़ा | 18 तक |
        मुझे लगता है 18 | 18 दशमलव पांच | 18 का एक तिहाई | दोगुना 18 | 18 के अलावा | 18 का वर्गमूल | मायनस 18 या |
        18 से नीचे | या 18"""
    ),
    "Marathi, Nepali": _texts(
        """जवळपास 18 | जवळजवळ 18 | किमान 18 | 18 पेक्षा जास्त | कदाचित 18 | 18 डझन | साडे 18 | सुमारे 18 |
        झण्डै 18 | कम्तीमा 18 | 18 भन्दा बढी | सायद 18 | करिब 18"""
    ),
    "Bengali": _texts(
        """18 নয় | প্রায় ১৮ | অন্তত 18 | 18 ভুল | 18 এর কাছাকাছি | মোটামুটি 18 | 18 থেকে বেশি | সর্বোচ্চ 18 |
        18 পর্যন্ত | 18 কিংবা | মনে হয় 18 | 18 হতে পারে | পৌনে 18 | 18 দশমিক পাঁচ | 18 ছাড়া | 18 এর বর্গমূল |
        হয়তো 18"""
    ),
    "Tamil": _texts(
        """18 தவறு | ஏறக்குறைய 18 | ஏறத்தாழ 18 | குறைந்தது 18 | அதிகபட்சம் 18 | 18 க்கு மேல் | ஒருவேளை 18 |
        18 இருக்கலாம் | 18 இலட்சம் | 18 நூறு | 18 தவிர | சுமார் 18 | 18 அல்லது"""
    ),
    "Telugu": _texts(
        """18 తప్పు | దాదాపుగా 18 | ఇంచుమించు 18 | కనీసం 18 | గరిష్టంగా 18 | 18 కంటే ఎక్కువ | 18 కంటే తక్కువ |
        18 పైగా | బహుశా 18 | 18 కావచ్చు | 18 మిలియన్ | 18 లో సగం | సుమారు 18"""
    ),
    "Lao, Khmer, Burmese": _texts(
        """ຢ່າງໜ້ອຍ 18 | 18 ພັນ | 18 ລ້ານ | ປະມານ 18 | យ៉ាងតិច 18 | 18 ពាន់ | 18 លាន | ប្រហែល 18 | အနည်းဆုံး 18 |
        18 ထောင် | 18 သောင်း | 18 ကျော်"""
    ),
    "Georgian, Armenian, Amharic": _texts(
        """დაახლოებით 18 | თითქმის 18 | მინიმუმ 18 | შესაძლოა 18 | 18 ათასი | մոտավորապես 18 | թերևս 18 |
        առնվազն 18 | 18 հազար | ምናልባት 18 | ቢያንስ 18 | 18 ሺህ"""
    ),
    "Chinese": _texts(
        """约18 | 大约18 | 不是18 | 18左右 | 不到18 | 18万 | 18多 | 第18 | 至少18 | 18以上 | 可能18 | 18个半 |
        要么18 | 我猜18 | 我认为是18 | 18之内 | 18点五 | 18分之一 | 加18 | 减18 | 18的立方 | 根号18 | 18的倍数 |
        除18外 | 难道是18 | 差一点18 | 勉强18 | 到18 | 快18 | 过18 | 18与20之间"""
    ),
    "Japanese": _texts(
        """約18 | 18くらい | 18ではない | およそ18人 | 18以上 | 18かもしれません | １８万 | おおむね18 |
        18より大きい | たかだか18 | 18は誤り | きっと18 | もしかしたら18 | 18だと思う | 18のようです | 18かな |
        18か | 18それとも | 18の二倍 | 18の平方根 | 18を引く | 18に近い | 18まで | 18ほど | 18番目"""
    ),
    "Korean": _texts(
        """약 18 | 18이 아닙니다 | 18정도 | 18명 이상 | 18만 | 아마 18 | 대충 18 | 18 전후 | 18에 가깝다 |
        많아야 18 | 18은 오답 | 혹시 18 | 18일 것입니다 | 18일 수도 있다 | 18 같아요 | 18입니까 | 제 생각엔 18 |
        18 사이 | 18시간 반 | 18의 반 | 두 배 18 | 18의 제곱 | 18번째 | 18 빼고"""
    ),
    "Thai": _texts(
        """ไม่ใช่ 18 | ประมาณ 18 | 18 หมื่น | อย่างน้อย 18 | มิใช่ 18 | 18 ผิด | ใกล้ 18 | อย่างมาก 18 |
        มากที่สุด 18 | ขั้นต่ำ 18 | ถึง 18 | คง 18 | เดาว่า 18 | ระหว่าง 18 | ยกเว้น 18 | รากที่สองของ 18 |
        18 ยกกำลัง | 18 ล้าน"""
    ),
}
